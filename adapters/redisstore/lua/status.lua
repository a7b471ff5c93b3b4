-- Connect, Disconnect and Status. KEYS: 1 user (hash: since, seen, and "on:<node>" by node: when the lease ends).
-- ARGV: 1 what: connect, disconnect or status; 2 node; 3 lease; 4 how long to remember.
local call, floor, max = redis.call, math.floor, math.max
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local h, gone, last = {}, {}, 0
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, v = all[i], all[i + 1]
  if string.sub(name, 1, 3) ~= 'on:' then
    h[name] = v
  elseif tonumber(v) > now then
    h[name] = v
    last = max(last, tonumber(v))
  else
    gone[#gone + 1] = name
  end
end
local field = 'on:' .. ARGV[2]
if ARGV[1] == 'status' then
  if last <= now then return {0, 0, tonumber(h.seen or 0)} end
  return {1, tonumber(h.since), tonumber(h.seen)}
end
if ARGV[1] == 'disconnect' then
  if not h[field] then return 0 end
  call('HSET', KEYS[1], 'seen', now)
  gone[#gone + 1] = field
else
  if last <= now then call('HSET', KEYS[1], 'since', now) end
  last = max(last, now + tonumber(ARGV[3]))
  call('HSET', KEYS[1], 'seen', now, field, now + tonumber(ARGV[3]))
end
for _, name in ipairs(gone) do
  if name ~= field or ARGV[1] == 'disconnect' then call('HDEL', KEYS[1], name) end
end
call('PEXPIREAT', KEYS[1], max(last, now + tonumber(ARGV[4])))
return 1
