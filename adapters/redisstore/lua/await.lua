-- Notes when topics may have something overdue. KEYS: 1 a part of the index (sorted set: topics by time).
-- ARGV: 1 "in" or "at"; then pairs of a time in milliseconds and a topic. The earliest time counts.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local last = now
for i = 2, #ARGV, 2 do
  local due = tonumber(ARGV[i])
  if ARGV[1] == 'in' then due = now + due end
  redis.call('ZADD', KEYS[1], 'LT', due, ARGV[i + 1])
  last = math.max(last, due)
end
-- Nothing stays for ever; but all nodes may be away for some weeks.
local MONTH = 30 * 86400000
if redis.call('PTTL', KEYS[1]) < last + MONTH - now then redis.call('PEXPIREAT', KEYS[1], last + MONTH + 86400000) end
return 1
