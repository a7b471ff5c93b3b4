-- Enter. KEYS: 5 log. ARGV: 1 node; 2 lease; then user ids and names.
local log = call('HMGET', KEYS[5], 'epoch', 'dies', 'room')
check()
expire()
local node, till = ARGV[1], now + tonumber(ARGV[2])
local users, seen = {}, {}
for i = 3, #ARGV, 2 do
  local user = ARGV[i]
  if not seen[user] then users[#users + 1] = user end
  seen[user] = ARGV[i + 1] -- of several names the last one counts
end
for from = 1, #users, 1000 do
  local to = min(from + 999, #users)
  local texts = call('HMGET', LEASES, unpack(users, from, to))
  local leases, names, ends, order = {}, {}, {}, {}
  for i = from, to do
    local user = users[i]
    local name = seen[user]
    local rest, first = without(texts[i - from + 1], node)
    leases[#leases + 1] = user
    leases[#leases + 1] = rest .. string.format('%.0f %d %d ', till, #node, #name) .. node .. name
    names[#names + 1], names[#names + 2] = user, name
    ends[#ends + 1], ends[#ends + 2] = min(first or till, till), user
    order[#order + 1], order[#order + 2] = 0, user
  end
  slices(leases, function(...) call('HSET', LEASES, ...) end)
  slices(names, function(...) call('HSET', MEMBERS, ...) end)
  slices(ends, function(...) call('ZADD', ENDS, ...) end)
  slices(order, function(...) call('ZADD', USERS, ...) end)
end
-- The keys go with the last lease, and the log of the room not before an hour after it.
if call('PTTL', ENDS) < till - now then
  for i = 1, 4 do call('PEXPIREAT', KEYS[i], till) end
end
local HOUR = 3600000
if log[1] and till > (tonumber(log[3]) or 0) then
  call('HSET', KEYS[5], 'room', till)
  local dies = tonumber(log[2]) or 0
  if dies > 0 and dies < till + HOUR then
    call('HSET', KEYS[5], 'dies', till + HOUR)
    call('PEXPIREAT', KEYS[5], till + HOUR)
  end
end
return 1
