-- What the scripts that change a log have in common. KEYS: 4 due (sorted set: offsets by when they are
-- overdue, in microseconds).
local DUE = KEYS[4]

-- forget takes offsets out of those that wait to be received.
local function forget(offsets)
  slices(offsets, function(...) call('ZREM', DUE, ...) end)
end

-- headed returns how many bytes come before the data in an element of messages that has the times in it.
local function headed(v) return string.find(v, '\n', 1, true) or 0 end

-- divide makes a log a marked one.
local function divide(l)
  l.marked = 1
  local infos = call('LRANGE', MSGS, 0, -1)
  if #infos == 0 then return end
  call('HSET', LOG, 'marked', 1) -- without memory this is refused, and so all that follows
  call('DEL', MSGS, INFO)
  local data = {}
  for i, v in ipairs(infos) do
    local last = headed(v)
    data[i], infos[i] = string.sub(v, last + 1), string.sub(v, 1, last - 1)
  end
  slices(data, function(...) call('RPUSH', MSGS, ...) end)
  slices(infos, function(...) call('RPUSH', INFO, ...) end)
  l.fresh = true -- they are to end when the log does
end

-- pop removes the n oldest entries. lost says that it is for want of space, so that
-- clients are to be told about those that were unread.
local function pop(l, n, lost)
  local gone = {}
  while n > 0 do
    local c = min(n, 1000)
    local data, infos = call('LPOP', MSGS, c), l.marked == 1 and call('LPOP', INFO, c)
    for i = 1, c do
      l.bytes = l.bytes - #data[i] + (infos and 0 or headed(data[i]))
      local state = infos and match(infos[i], '^%d+ %-?%d+ (%a)')
      if state then
        local offset = l.first + i - 1
        gone[#gone + 1] = offset
        if state == 'u' then
          l.unread = l.unread - 1
          if lost then l.truncated = offset end
        end
      end
    end
    l.first, l.n, n = l.first + c, l.n - c, n - c
    if l.n == 0 then l.fresh = true end
  end
  forget(gone)
end

-- lapse takes their data from the entries whose TTL has passed. They stay, so that offsets have no holes.
local function lapse(l)
  if l.soonest == 0 or now < l.soonest then return end
  l.soonest = 0
  local gone = {}
  for i, v in ipairs(call('LRANGE', INFO, 0, -1)) do
    local when, time, state, expires = parse(v)
    if expires > now then
      if l.soonest == 0 or expires < l.soonest then l.soonest = expires end
    elseif expires > 0 and state ~= 'x' then
      l.bytes = l.bytes - #call('LINDEX', MSGS, i - 1)
      call('LSET', MSGS, i - 1, '')
      call('LSET', INFO, i - 1, when .. ' ' .. time .. ' x ' .. string.format('%.0f', expires) .. ' ')
      gone[#gone + 1] = l.first + i - 1
      if state == 'u' then l.unread = l.unread - 1 end
    end
  end
  forget(gone)
end

-- settle forgets what is too old. It comes before all other changes: without memory Redis refuses the first one, and with it all; once there
-- was one that needs none, it lets all pass.
local function settle(l)
  if l.refused then
    call('HSET', LOG, 'epoch', l.refused, 'server', server())
    l.epoch, l.refused = l.refused, nil
  end
  if l.n == 0 then
    if l.lost then call('DEL', MSGS, l.marked == 1 and INFO or MSGS) end
    l.fresh = true
    return
  end
  if l.skip > 0 then
    local skip = l.skip
    l.first, l.n, l.skip = l.first - skip, l.n + skip, 0
    pop(l, skip, false)
  end
  lapse(l)
  pop(l, aged(l), false) -- first, because what is too old is not missed
end

-- save writes what has changed.
local function save(l)
  l.stale = l.soonest
  if l.marked == 1 and l.age > 0 and l.n > 0 then
    local oldest = at(l, 0) + l.age
    if l.stale == 0 or oldest < l.stale then l.stale = oldest end
  end
  local set, saved = {}, l.saved
  if #saved == 0 then set = {'epoch', l.epoch} end
  if l.n == 0 or l.marked == 1 or l.truncated > 0 or l.changes > 0 then l.plain = '' end
  if l.plain ~= (saved.plain or '') then set[#set + 1], set[#set + 2] = 'plain', l.plain end
  for i = 1, #FIELDS do
    local name = FIELDS[i]
    local v = l[name]
    if v ~= saved[i + 2] then set[#set + 1], set[#set + 2] = name, v end
  end
  if #saved == 0 then set[#set + 1], set[#set + 2] = 'server', server() end
  if #set > 0 then call('HSET', LOG, unpack(set)) end
end
