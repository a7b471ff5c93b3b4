-- What the scripts about who is in a room have in common.
-- KEYS: 1 members (hash: name by user id), 2 users (sorted set of the same user ids, in the order of their bytes),
-- 3 leases (hash by user id), 4 ends (sorted set: user ids by the time at which the first of their leases ends).
--
-- Leases are "<end> <length of node> <length of name> <node><name>", one for each node, the one entered last at the end.
local MEMBERS, USERS, LEASES, ENDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, match, floor, max, min = redis.call, string.match, math.floor, math.max, math.min
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)

-- each calls f with the end, the node, the name and the text of each lease.
local function each(text, f)
  local from = 1
  while text and from <= #text do
    local till, node, name, after = match(text, '^(%d+) (%d+) (%d+) ()', from)
    local middle = after + tonumber(node)
    local last = middle + tonumber(name)
    f(tonumber(till), string.sub(text, after, middle - 1), string.sub(text, middle, last - 1), string.sub(text, from, last - 1))
    from = last
  end
end

-- without returns the leases in text that have not ended and are not those of node: text, the first end, the last name.
local function without(text, node)
  local rest, first, last = {}, nil, nil
  each(text, function(till, n, name, whole)
    if till > now and n ~= node then
      rest[#rest + 1] = whole
      first, last = min(first or till, till), name
    end
  end)
  return table.concat(rest), first, last
end

local function slices(list, f)
  for i = 1, #list, 1000 do f(unpack(list, i, min(i + 999, #list))) end
end

-- leave takes out the leases of users that have ended or are those of node.
local function leave(users, node)
  local gone, leases, names, ends = {}, {}, {}, {}
  for from = 1, #users, 1000 do
    local to = min(from + 999, #users)
    local texts = call('HMGET', LEASES, unpack(users, from, to))
    for i = from, to do
      local user, text = users[i], texts[i - from + 1]
      local rest, first, name = without(text, node)
      if text and rest == '' then
        gone[#gone + 1] = user
      elseif text and rest ~= text then
        leases[#leases + 1], leases[#leases + 2] = user, rest
        names[#names + 1], names[#names + 2] = user, name
        ends[#ends + 1], ends[#ends + 2] = first, user
      end
    end
  end
  slices(gone, function(...)
    call('HDEL', MEMBERS, ...)
    call('HDEL', LEASES, ...)
    call('ZREM', USERS, ...)
    call('ZREM', ENDS, ...)
  end)
  slices(leases, function(...) call('HSET', LEASES, ...) end)
  slices(names, function(...) call('HSET', MEMBERS, ...) end)
  slices(ends, function(...) call('ZADD', ENDS, ...) end)
end

-- expire takes out leases that have ended.
local function expire()
  local ended = call('ZRANGE', ENDS, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1000)
  if #ended > 0 then leave(ended, nil) end
end

-- check is an error if one of the keys is of another kind, before anything has changed.
local function check()
  call('HLEN', MEMBERS)
  call('HLEN', LEASES)
  call('ZCARD', USERS)
  call('ZCARD', ENDS)
end
