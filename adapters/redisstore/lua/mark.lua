-- Mark. ARGV: 1 an epoch, if there is none yet; 2 what to make of the entries: r read, u unread, a archived, v received;
-- 3 the epoch meant, or ''; 4 up to; 5 the number of offsets; then the offsets; then keys.
-- Returns epoch, top, unread, version, truncated, and the first and last offset of each run of entries that changed.
local l = load(ARGV[1])
if not l then
  born(ARGV[1])
  return {ARGV[1], 0, 0, 0, 0, {}}
end
local waiting = call('ZCARD', DUE)
settle(l)

local as, upto, count = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local ahead = upto > l.top
for i = 6, 5 + count do ahead = ahead or tonumber(ARGV[i]) > l.top end

-- picked returns which elements are meant, as a table by index, and the last index.
local function picked(infos)
  local wanted, last = {}, 0
  local function pick(offset)
    local i = offset - l.first + 1
    if i >= 1 and i <= l.n then
      wanted[i] = true
      last = max(last, i)
    end
  end
  for offset = l.first, min(upto, l.top) do pick(offset) end
  for i = 6, 5 + count do pick(tonumber(ARGV[i])) end
  if #ARGV > 5 + count then
    local keys = {}
    for i = 6 + count, #ARGV do keys[ARGV[i]] = true end
    for i, v in ipairs(infos) do
      local _, _, _, _, key = parse(v)
      if key ~= '' and keys[key] then pick(l.first + i - 1) end
    end
  end
  return wanted, last
end

-- becomes returns the state that follows a state, or nil if that stays.
local function becomes(state)
  if state == 'n' or state == 'x' or as == 'v' or state == as then return nil end
  if as == 'r' and state ~= 'u' then return nil end
  return as
end

-- write stores the elements of info that are in changed: one by one, or, if there are many, the whole list anew.
local function write(infos, changed)
  if #changed <= 32 then
    for _, i in ipairs(changed) do call('LSET', INFO, i - 1, infos[i]) end
    return
  end
  call('DEL', INFO)
  slices(infos, function(...) call('RPUSH', INFO, ...) end)
  if l.ends > 0 then call('PEXPIREAT', INFO, l.ends) end
end

local spans = {}
local function apply()
  local infos = call('LRANGE', INFO, 0, -1)
  local wanted, last = picked(infos)
  local changed, received = {}, {}
  for i = 1, last do
    if wanted[i] then
      local when, time, state, expires, key = parse(infos[i])
      local offset = l.first + i - 1
      if state and as ~= 'u' then received[#received + 1] = offset end
      local after = state and becomes(state)
      if after then
        if state == 'u' then l.unread = l.unread - 1 end
        if after == 'u' then l.unread = l.unread + 1 end
        infos[i] = when .. ' ' .. time .. ' ' .. after .. string.format(' %.0f ', expires) .. key
        changed[#changed + 1] = i
        if spans[#spans] == offset - 1 then
          spans[#spans] = offset
        else
          spans[#spans + 1] = offset
          spans[#spans + 1] = offset
        end
      end
    end
  end
  if waiting > 0 then forget(received) end
  if #changed > 0 then
    l.changes = l.changes + 1
    write(infos, changed)
  end
end

if (ARGV[3] == '' or ARGV[3] == l.epoch) and not ahead then
  if (as == 'r' or as == 'a') and upto >= l.truncated then l.truncated = 0 end
  local idle = l.marked == 0 or l.n == 0
    or as == 'v' and waiting == 0
    or as == 'r' and waiting == 0 and l.unread == 0
  if not idle then apply() end
end
save(l)
return {l.epoch, l.top, l.unread, l.top + l.changes, l.truncated, spans}
