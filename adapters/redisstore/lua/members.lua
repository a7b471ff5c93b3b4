-- Members. ARGV: 1 limit. Changes nothing. Returns how many there are, and the first ones: pairs of user id and name.
local gone, count = {}, 0
for _, user in ipairs(call('ZRANGE', ENDS, '-inf', now, 'BYSCORE')) do
  if without(call('HGET', LEASES, user), nil) == '' then
    gone[user] = true
    count = count + 1
  end
end
local limit, list = tonumber(ARGV[1]), {}
if limit > 0 then
  local users = {}
  for _, user in ipairs(call('ZRANGE', USERS, 0, limit + count - 1)) do
    if not gone[user] and #users < limit then users[#users + 1] = user end
  end
  for from = 1, #users, 1000 do
    local to = min(from + 999, #users)
    local texts = call('HMGET', LEASES, unpack(users, from, to))
    for i = from, to do
      local _, _, name = without(texts[i - from + 1], nil)
      list[#list + 1] = users[i]
      list[#list + 1] = name or ''
    end
  end
end
return {call('ZCARD', USERS) - count, list}
