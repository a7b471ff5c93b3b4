-- Append for one or several topics, each by its callers, to logs in use in which no entry has a state and nothing has grown too old.
-- KEYS: for each topic log and messages, and, if an entry has a key, the two hashes of keys.
-- ARGV: '' if there are several topics; how to publish; then for each topic: "<messages> <bytes> <age> " to keep; of several, 4 or 2, how many keys
-- it has, and how many arguments follow; and for each caller as append.lua has them. Every one of them costs Redis more than most of what is done with it.
-- Returns for each topic what append.lua returns; or nothing, if it is to do it, and then nothing has changed; or, of several topics, "!" and why
-- it has failed.
local call, floor, min, format, find, sub = redis.call, math.floor, math.min, string.format, string.find, string.sub
local one = ARGV[1] ~= ''
local publish = one and ARGV[1] or ARGV[2]
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local at, history = format('%.0f ', now), server()

-- push appends to the list, which is to be of this size then. If it is not, it has changed nothing, and says so.
local function push(msgs, elements, size)
  local got = redis.pcall('RPUSH', msgs, unpack(elements))
  if got == size then return true end
  if type(got) == 'number' then call('RPOP', msgs, #elements) end
  return false
end

-- pop removes the oldest ones, and returns how many bytes of data that was.
local function pop(msgs, count)
  local bytes = 0
  for _, v in ipairs(call('LPOP', msgs, count)) do bytes = bytes + #v - (find(v, '\n', 1, true) or 0) end
  return bytes
end

local function append(k, keep, keys, a, last)
  local LOG, MSGS = KEYS[k], KEYS[k + 1]
  local h, current, previous
  if keys == 2 then
    h = call('HMGET', LOG, 'epoch', 'plain', 'top', 'first', 'bytes', 'calm')
  else
    h = call('HMGET', LOG, 'epoch', 'plain', 'top', 'first', 'bytes', 'calm', 'window')
    local turn = tonumber(h[7] or 0)
    current, previous = KEYS[k + 2 + turn % 2], KEYS[k + 3 - turn % 2]
    if floor(now / WINDOW) > turn then return '' end -- it is time for another hash
  end
  if h[2] ~= keep .. history or now >= tonumber(h[6]) then return '' end
  local epoch, top, first, bytes = h[1], tonumber(h[3]), tonumber(h[4]), tonumber(h[5] or 0)
  local n, text = top - first + 1, h[3]
  local elements, given, notes, answer = {}, nil, nil, nil
  while a <= last do
    local after = a + 3 + 4 * ARGV[a]
    local offsets, published, was = '', nil, top
    for e = a + 3, after - 1, 4 do
      local key, next, offset = ARGV[e], format('%d', top + 1), nil
      if key ~= '' then
        offset = call('HGET', previous, key) or call('HSETNX', current, key, next) == 0 and call('HGET', current, key)
      end
      if offset then
        next = '0'
        offsets = offsets .. ' -' .. offset
      else
        top, text = top + 1, next
        offsets = offsets .. ' ' .. text
        bytes = bytes + #ARGV[e + 1]
        elements[#elements + 1] = at .. ARGV[e + 2] .. '\n' .. ARGV[e + 1]
        if key ~= '' then
          given = given or {}
          given[#given + 1] = key
        end
      end
      published = published and published .. ',' .. next or next
    end
    if top > was and ARGV[a + 1] ~= '0' then
      notes = notes or {}
      notes[#notes + 1] = message(ARGV, '0 ' .. text .. ' ' .. published .. ' ' .. epoch .. '\n', a, after)
    end
    local line = epoch .. ' 0 ' .. text .. ' 0' .. offsets
    answer = answer and answer .. '\n' .. line or line
    a = after
  end
  if #elements == 0 then return answer end
  local messages, most = string.match(keep, '^(%d+) (%d+)')
  messages, most = tonumber(messages), tonumber(most)
  -- That the list is as long as it must be shows only now.
  local size = n + #elements
  if most > 0 and bytes > most or not push(MSGS, elements, size) then
    if given then call('HDEL', current, unpack(given)) end
    return ''
  end
  -- To remove many at a time costs less. Nobody sees those that are left, see log.lua.
  if size > messages + min(floor(messages / 8), 100) then
    bytes = bytes - pop(MSGS, size - messages)
    call('HSET', LOG, 'top', text, 'bytes', format('%d', bytes), 'first', format('%d', top - messages + 1))
  else
    call('HSET', LOG, 'top', text, 'bytes', format('%d', bytes))
  end
  if notes then
    local channel = sub(LOG, 1, -4) .. 'live'
    for i = 1, #notes do redis.pcall(publish, channel, notes[i]) end -- that this fails is no error of the Append
  end
  return answer
end

if one then return {append(1, ARGV[2], #KEYS, 3, #ARGV)} end
local answers, k, a = {}, 1, 3
while k <= #KEYS do
  local keep, keys = ARGV[a], tonumber(ARGV[a + 1])
  local last = a + 2 + ARGV[a + 2]
  local ok, answer = pcall(append, k, keep, keys, a + 3, last)
  if not ok then
    if type(answer) == 'table' then answer = answer.err end
    if find(answer, 'READONLY', 1, true) then return {err = answer} end -- nothing at all was written, and the client is to know
    answer = '!' .. answer
  end
  answers[#answers + 1] = answer
  k, a = k + keys, last + 1
end
return answers
