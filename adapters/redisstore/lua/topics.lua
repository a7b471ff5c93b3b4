-- Append for one or several topics, each by its callers. What comes before this is the function whole, which does it in any case.
-- KEYS: for each topic 7, as whole has them.
-- ARGV: 1 an epoch, for logs that need one; 2 the window; 3 how to publish; then for each topic: "<messages> <bytes> <age> " to keep,
-- a channel, how many arguments follow, p if no entry has a state, and k if there are keys besides; and for each caller as whole has them.
-- Returns for each topic one string: for each caller a line of epoch, unread, version, truncated and the offsets, negative
-- for duplicates; or, if the topic has failed, "!" and why.
local call, floor, format = redis.call, math.floor, string.format
local window = tonumber(ARGV[2])
local now, at, history
local limits = {} -- by what is to be kept: how many messages and bytes

-- keyed returns the offsets of the keys that are known already, by key, and the hash for those that are not. No hash: it is time for another one.
local function keyed(k, turn, a, last)
  if floor(now / window) > turn then return end
  local wanted = {}
  while a <= last do
    local n = tonumber(ARGV[a])
    for e = a + 3, a + 3 * n, 3 do
      if ARGV[e] ~= '' then wanted[#wanted + 1] = ARGV[e] end
    end
    a = a + 3 + 3 * n
  end
  local known, current = {}, KEYS[k + 4 + turn % 2]
  local before = call('HMGET', KEYS[k + 5 - turn % 2], unpack(wanted))
  local since = call('HMGET', current, unpack(wanted))
  for i = 1, #wanted do known[wanted[i]] = since[i] or before[i] end
  return known, current
end

-- quick does it for a log in use in which no entry has a state and nothing has grown too old, and returns the answer. Otherwise it
-- returns nothing, and has changed nothing.
local function quick(k, keep, channel, a, last, kind)
  local LOG, MSGS, INFO = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local h = call('HMGET', LOG, 'epoch', 'top', 'first', 'bytes', 'changes', 'plain', 'calm', 'window')
  if h[6] ~= keep .. history or now >= tonumber(h[7]) then return end
  local epoch, top, first, bytes, changes = h[1], tonumber(h[2]), tonumber(h[3]), tonumber(h[4] or 0), tonumber(h[5] or 0)
  local known, current
  if kind == 'k' then
    known, current = keyed(k, tonumber(h[8] or 0), a, last)
    if not current then return end
  end
  local n, added = top - first + 1, 0
  local data, infos, given, notes, answer, answers = {}, {}, nil, nil, nil, nil
  while a <= last do
    local count, payload = tonumber(ARGV[a]), ARGV[a + 1] == '1'
    local offsets, published, was = '', nil, top
    for e = a + 3, a + 3 * count, 3 do
      local key = ARGV[e]
      local offset, text = known and known[key], '0'
      if offset then
        offsets = offsets .. ' -' .. offset
      else
        top = top + 1
        text = format('%d', top)
        offsets = offsets .. ' ' .. text
        added = added + #ARGV[e + 1]
        data[#data + 1], infos[#infos + 1] = ARGV[e + 1], at .. ARGV[e + 2]
        if key ~= '' then
          known[key] = text
          given = given or {}
          given[#given + 1], given[#given + 2] = key, text
        end
      end
      published = published and published .. ',' .. text or text
    end
    local version = changes == 0 and top or top + changes
    version = format('%d', version)
    if payload and top > was then
      notes = notes or {}
      notes[#notes + 1] = '0 ' .. version .. ' ' .. published .. ' ' .. epoch .. '\n' .. ARGV[a + 2]
    end
    if answer then -- not the first one
      answers = answers or {answer}
      answers[#answers + 1] = epoch .. ' 0 ' .. version .. ' 0' .. offsets
    else
      answer = epoch .. ' 0 ' .. version .. ' 0' .. offsets
    end
    a = a + 3 + 3 * count
  end
  if answers then answer = table.concat(answers, '\n') end
  if #data == 0 then return answer end
  local limit = limits[keep]
  if not limit then
    local messages, most = string.match(keep, '^(%d+) (%d+)')
    limit = {tonumber(messages), tonumber(most)}
    limits[keep] = limit
  end
  if limit[2] > 0 and bytes + added > limit[2] then return end
  -- That the lists are as long as they must be shows only now.
  local size = n + #data
  if call('RPUSH', MSGS, unpack(data)) ~= size then
    call('RPOP', MSGS, #data)
    return
  end
  local other = redis.pcall('RPUSH', INFO, unpack(infos))
  if other ~= size then
    call('RPOP', MSGS, #data)
    if type(other) == 'number' then call('RPOP', INFO, #data) end
    return
  end
  bytes = bytes + added
  local over = size - limit[1]
  if over == 1 then
    bytes = bytes - #call('LPOP', MSGS)
    call('LPOP', INFO)
    first = first + 1
  elseif over > 0 then
    for _, old in ipairs(call('LPOP', MSGS, over)) do bytes = bytes - #old end
    call('LPOP', INFO, over)
    first = first + over
  end
  call('HSET', LOG, 'top', format('%d', top), 'bytes', format('%d', bytes), 'first', format('%d', first))
  if given then call('HSET', current, unpack(given)) end
  if notes then
    for i = 1, #notes do redis.pcall(ARGV[3], channel, notes[i]) end -- that this fails is no error of the Append
  end
  return answer
end

local function any(k, keep, channel, a, last)
  local keys = {unpack(KEYS, k, k + 6)}
  local messages, bytes, age = string.match(keep, '(%d+) (%d+) (%d+)')
  local args = {ARGV[1], messages, bytes, age, ARGV[2], ARGV[3], channel}
  for i = a, last do args[#args + 1] = ARGV[i] end
  return whole(keys, args)
end

local answers, a = {}, 4
for k = 1, #KEYS, 7 do
  local keep, channel, last, kind = ARGV[a], ARGV[a + 1], a + 3 + ARGV[a + 2], ARGV[a + 3]
  a = a + 4
  if kind ~= '' and not now then
    local clock = call('TIME')
    now, history = clock[1] * 1000 + floor(clock[2] / 1000), server()
    at = format('%.0f ', now)
  end
  local function one()
    return (kind ~= '' and last - a < 1000) and quick(k, keep, channel, a, last, kind) or any(k, keep, channel, a, last)
  end
  if #KEYS == 7 then return {one()} end
  local ok, answer = pcall(one)
  if not ok then
    if type(answer) == 'table' then answer = answer.err end
    if string.find(answer, 'READONLY', 1, true) then return {err = answer} end -- nothing at all was written, and the client is to know
    answer = '!' .. answer
  end
  answers[#answers + 1] = answer
  a = last + 1
end
return answers
