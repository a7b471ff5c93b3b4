-- What the scripts about the log of a topic have in common.
-- KEYS: 1 log (hash), 2 messages (list), 3 info (list, in parallel to messages; only if the log is marked).
--
-- In most logs a message is "<at> <time>", a line feed, and the data; at is when the entry was appended by the clock of
-- Redis, and time is Entry.Time. In logs that are marked, because a mark or a time could change what becomes of an entry, a message is the
-- data alone, and an element of info is "<at> <time>" or "<at> <time> <state> <expires> <key>". States: u unread, r read, a archived,
-- n not counted, x expired. expires is 0 for an entry without TTL. All times are in milliseconds since 1970.
local LOG, MSGS, INFO = KEYS[1], KEYS[2], KEYS[3]
local call, match, floor, max, min = redis.call, string.match, math.floor, math.max, math.min
local HOUR, FOREVER = 3600000, 9e15
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)

-- Redis looks through the fields of a small hash in this order: first what quick.lua needs.
local FIELDS = {'top', 'first', 'bytes', 'calm', 'window', 'unread', 'changes', 'truncated', 'age', 'soonest', 'stale',
  'room', 'ends', 'dies', 'marked'}

-- make returns a log. saved holds what Redis has: epoch, server and FIELDS; nothing, if the log is new.
local function make(epoch, saved)
  return {
    epoch = epoch, saved = saved, top = saved[3] or 0, first = max(saved[4] or 1, 1), bytes = saved[5] or 0, calm = saved[6] or 0,
    window = saved[7] or 0, unread = saved[8] or 0, changes = saved[9] or 0, truncated = saved[10] or 0, age = saved[11] or 0,
    soonest = saved[12] or 0, stale = saved[13] or 0, room = saved[14] or 0, ends = saved[15] or 0, dies = saved[16] or 0, marked = saved[17] or 0,
    plain = saved.plain or '',
    n = 0, skip = 0, lost = false, fresh = false,
  }
end

-- load returns the log, or nil if there is none. If the server has not the history with which the log was
-- begun, the last entries may be missing, and their offsets would be given again: then the epoch becomes fresh. Nothing
-- else changes, and where nothing can be written not even that.
--   first     offset of the first entry; n how many there are; skip how many are left before them in the list, because quick.lua
--             does not remove one each time. The hash has the offset of the first element.
--   changes   how many Marks have changed something
--   soonest   a time before which no TTL passes; 0: none will
--   stale     a time before which unread is right; 0: it stays so
--   room      when the last lease in the room ends
--   ends      when messages and info go for good; 0: never
--   dies      when the whole log goes; 0: never
--   marked    1 if there is a list info, because an entry has, or had, a state
--   window    which of the two hashes of keys is in use
--   plain     what is kept, and the history, if there have been no states; then quick.lua may append
--   calm      until when it may, because nothing grows too old before
local function load(fresh)
  local h = call('HMGET', LOG, 'epoch', 'server', 'top', 'first', 'bytes', 'calm', 'window', 'unread', 'changes', 'truncated', 'age', 'soonest',
    'stale', 'room', 'ends', 'dies', 'marked', 'plain')
  if not h[1] then return nil end
  local history = server()
  for i = 3, #FIELDS + 2 do h[i] = tonumber(h[i] or 0) end
  h.plain = h[#FIELDS + 3] or ''
  local l = make(h[1], h)
  if h[2] ~= history then
    if DURABLE and not promoted() then fresh = l.epoch end -- the server was started again
    if redis.pcall('HSET', LOG, 'epoch', fresh, 'server', history) == 0 then
      l.epoch = fresh
    else
      l.refused = fresh -- see settle
    end
  end
  l.n = l.top - l.first + 1
  local n = call('LLEN', MSGS)
  local m = l.marked == 1 and call('LLEN', INFO) or n
  if n ~= l.n or m ~= l.n then
    -- They have reached their end, or Redis has evicted them for want of memory.
    l.lost = n + m > 0
    if l.unread > 0 and (l.ends == 0 or now < l.ends) then l.truncated = l.top end
    l.n, l.first, l.unread, l.bytes, l.soonest, l.stale = 0, l.top + 1, 0, 0, 0, 0
  elseif l.plain ~= '' then
    l.skip = max(0, n - tonumber(match(l.plain, '^%d+')))
    l.first, l.n = l.first + l.skip, n - l.skip
  end
  return l
end

-- at returns when the i-th entry was appended, counted from 0.
local function at(l, i) return tonumber(match(call('LINDEX', l.marked == 1 and INFO or MSGS, l.skip + i), '^%d+')) end

-- aged returns how many entries are too old.
local function aged(l)
  if l.age == 0 or l.n == 0 or at(l, 0) + l.age > now then return 0 end
  local low, high = 0, l.n
  while high - low > 1 do
    local middle = floor((low + high) / 2)
    if at(l, middle) + l.age <= now then low = middle else high = middle end
  end
  return high
end

-- parse returns the parts of an element of info. state is nil if it has none.
local function parse(v)
  local when, time, rest = match(v, '^(%d+) (%-?%d+)(.*)$')
  if rest == '' then return when, time, nil, 0, '' end
  local state, expires, key = match(rest, '^ (%a) (%d+) (.*)$')
  return when, time, state, tonumber(expires), key
end

-- slices calls f with up to 1000 elements of list at a time: unpack takes no more than some thousands.
local function slices(list, f)
  for i = 1, #list, 1000 do f(unpack(list, i, min(i + 999, #list))) end
end

-- born makes a log without entries, which is there to keep its epoch.
local function born(epoch)
  call('HSET', LOG, 'epoch', epoch, 'server', server(), 'dies', now + HOUR)
  call('PEXPIREAT', LOG, now + HOUR)
end

-- touch lets a log that somebody still asks for live on. That it cannot be written to now is no harm.
local function touch(l)
  if l.dies > 0 and l.dies < now + HOUR / 2 and redis.pcall('HSET', LOG, 'dies', now + HOUR) == 0 then
    redis.pcall('PEXPIREAT', LOG, now + HOUR)
  end
end
