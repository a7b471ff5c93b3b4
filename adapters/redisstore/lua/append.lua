-- Append, of one or several callers: each gets the answer that it would have got alone.
-- KEYS: 5 and 6 keys (hashes: offsets by idempotency key), 7 leases of the room.
-- ARGV: 1 an epoch, if there is none yet; 2 to 4 messages, bytes and age to keep; 5 how to publish; 6 channel;
-- then for each caller: how many entries, what to publish (0 nothing, 1 the payload, 2 pieces), the payload or its first piece; and for each entry
-- its key, its data, "<time>" or "<time> <state> <ttl> <receive in>", and the next piece, see message.lua.
-- Returns for each caller a line of epoch, unread, version, truncated and the offsets, negative for duplicates.
local epoch, keep, bytes, age = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local TABLE = string.rep(' ', 65) -- hash-max-listpack-value is 64
local clean = {MSGS, INFO, DUE, KEYS[5], KEYS[6]}

-- Everything is read first: a key of another kind than ours is an error before anything has changed.
local l = load(ARGV[1])
call('ZCARD', DUE)
local leases = 0
if not l then
  call('LLEN', MSGS)
  call('LLEN', INFO)
  l = make(epoch, {})
end
if l.top == 0 then
  call('HLEN', KEYS[5])
  call('HLEN', KEYS[6])
  leases = call('PTTL', KEYS[7])
end

-- keys are remembered in the hash of their window, and looked up in that of the one before, too.
local wanted, known, given, stated = {}, {}, {}, false
local i = 7
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  for e = 0, n - 1 do
    local key = ARGV[i + 3 + 4 * e]
    if key ~= '' then wanted[#wanted + 1] = key end
    stated = stated or string.find(ARGV[i + 5 + 4 * e], ' ', 1, true)
  end
  i = i + 3 + 4 * n
end
if l.marked == 0 and (stated or l.top == 0) then call('LLEN', INFO) end
local turn = max(floor(now / WINDOW), l.window)
local current, previous = KEYS[5 + turn % 2], KEYS[6 - turn % 2]
if l.top > 0 then
  for _, hash in ipairs({previous, current}) do
    for from = 1, #wanted, 1000 do
      local to = min(from + 999, #wanted)
      local offsets = call('HMGET', hash, unpack(wanted, from, to))
      for j = from, to do
        local offset = offsets[j - from + 1]
        if offset then known[wanted[j]] = tonumber(offset) end
      end
    end
  end
end

-- From here on things change.
settle(l)
if l.top == 0 then
  call('DEL', unpack(clean)) -- what a log that was evicted has left behind
  if leases > 0 then l.room = now + leases end
end
if stated and l.marked == 0 then divide(l) end

local answers, notes, dues, awaited = {}, {}, {}, false

local today = string.format('%.0f ', now)
-- info returns the times and the state of an entry.
local function info(arg, key, nth)
  local time, state, ttl, receive = match(arg, '^(%S+) (%a) (%d+) (%d+)$')
  if not time then return today .. arg end
  ttl, receive = tonumber(ttl), tonumber(receive)
  local expires = 0
  if ttl > 0 then
    expires = now + ttl
    if l.soonest == 0 or expires < l.soonest then l.soonest = expires end
  end
  if state == 'u' then l.unread = l.unread + 1 end
  if receive > 0 then
    dues[#dues + 1] = (now + receive) * 1000 + min(nth, 999)
    dues[#dues + 1] = l.top
  end
  if state == 'n' and receive == 0 then key = '' end
  return today .. string.format('%s %s %.0f ', time, state, expires) .. key -- %s ends at a zero byte
end

i = 7
while i <= #ARGV do
  local n, caller = tonumber(ARGV[i]), i
  i = i + 3
  local offsets, published, data, infos = {}, {}, {}, {}
  for e = 1, n do
    local key = ARGV[i]
    local offset = key ~= '' and known[key]
    if offset then
      offsets[e], published[e] = -offset, '0'
    else
      l.top = l.top + 1
      offsets[e], published[e] = l.top, l.top
      local text = info(ARGV[i + 2], key, e)
      if l.marked == 1 then
        data[#data + 1], infos[#infos + 1] = ARGV[i + 1], text
      else
        data[#data + 1] = text .. '\n' .. ARGV[i + 1]
      end
      l.bytes = l.bytes + #ARGV[i + 1]
      if key ~= '' then
        known[key] = l.top
        given[#given + 1] = key
        given[#given + 1] = l.top
      end
    end
    i = i + 4
  end
  if #data > 0 then
    slices(data, function(...) call('RPUSH', MSGS, ...) end)
    slices(infos, function(...) call('RPUSH', INFO, ...) end)
    l.n = l.n + #data
    if #dues > 0 then -- before pop, which takes out what goes at once
      awaited = true
      slices(dues, function(...) call('ZADD', DUE, ...) end)
      dues = {}
    end
  end
  pop(l, l.n - keep, true)
  while bytes > 0 and l.bytes > bytes and l.n > 1 do pop(l, 1, true) end
  if #data > 0 and ARGV[caller + 1] ~= '0' then
    local header = string.format('%.0f %.0f ', l.unread, l.top + l.changes) .. table.concat(published, ',') .. ' ' .. l.epoch .. '\n'
    notes[#notes + 1] = message(ARGV, header, caller, i)
  end
  answers[#answers + 1] = l.epoch .. string.format(' %.0f %.0f %.0f ', l.unread, l.top + l.changes, l.truncated) .. table.concat(offsets, ' ')
end

if #given > 0 then
  -- A long value makes Redis keep the hash as a table: in the list that it makes of small ones it would look through all, hundreds.
  local new = call('HSETNX', current, '', TABLE) == 1
  slices(given, function(...) call('HSET', current, ...) end)
  if new or l.window ~= turn then
    l.window = turn
    call('PEXPIREAT', current, (turn + 2) * WINDOW)
  end
end

-- The entries go when all are too old, and the rest as long after that, but an hour at least, and
-- not while somebody is in the room. A quarter more saves setting it at every call.
local dated = false
if age > 0 then
  if l.fresh or l.age ~= age or l.ends < now + age then
    l.ends = now + age + floor(age / 4)
    call('PEXPIREAT', MSGS, l.ends)
    if l.marked == 1 then call('PEXPIREAT', INFO, l.ends) end
    awaited = true
  end
  if awaited then call('PEXPIREAT', DUE, l.ends) end
  local dies = max(l.ends + max(age, HOUR), l.room + HOUR)
  if dies > l.dies or l.age ~= age then
    l.dies = dies
    dated = true
  end
elseif l.dies ~= 0 or l.ends ~= 0 then
  l.ends, l.dies = 0, 0
  for _, key in ipairs({LOG, MSGS, DUE, l.marked == 1 and INFO or nil}) do call('PERSIST', key) end
end
l.age = age
l.plain = string.format('%.0f %.0f %.0f ', keep, bytes, age) .. server()
l.calm = age > 0 and l.n > 0 and min(at(l, 0) + age, l.ends - age) or FOREVER
save(l)
if dated then call('PEXPIREAT', LOG, l.dies) end
for _, note in ipairs(notes) do redis.pcall(ARGV[5], ARGV[6], note) end -- that this fails is no error of the Append
return table.concat(answers, '\n')
