-- Takes topics out of a part of the index, to look at them, and notes them to be looked at once more in a minute:
-- an Append may have noted a topic and be still on its way, and who takes it now may die.
-- KEYS as in find.lua. ARGV: topics. Returns those that nobody else has taken.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local mine = {}
for i = 1, #ARGV do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    mine[#mine + 1] = ARGV[i]
    redis.call('ZADD', KEYS[2], now + 60000, ARGV[i])
  end
end
if #mine > 0 then redis.call('PEXPIRE', KEYS[2], 30 * 86400000) end
return mine
