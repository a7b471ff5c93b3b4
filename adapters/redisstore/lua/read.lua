-- Read. ARGV: 1 an epoch, if there is none yet; 2 direction, f or b; 3 after or before; 4 limit; 5 marks, 1 or 0.
-- Returns epoch, top, first, unread, version, truncated, now, the offset of the first entry returned,
-- and lists of messages, of info, and of the info of the whole log if marks are asked for. Without info the messages have the times in them.
local l = load(ARGV[1])
if not l then
  born(ARGV[1])
  return {ARGV[1], 0, 1, 0, 0, 0, now, 1, {}, {}, {}}
end
touch(l)
local old = aged(l)
local first, unread = l.first + old, l.unread
if unread > 0 and (old > 0 or l.soonest > 0 and l.soonest <= now) then
  for i, v in ipairs(call('LRANGE', INFO, 0, -1)) do
    local _, _, state, expires = parse(v)
    if state == 'u' and (i <= old or expires > 0 and expires <= now) then unread = unread - 1 end
  end
end
local mark, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local from, to = first, l.top
if ARGV[2] == 'f' then
  from = max(first, mark + 1)
elseif mark > 0 then
  to = min(to, mark - 1)
end
local n = min(to - from + 1, limit)
if ARGV[2] ~= 'f' then from = to - n + 1 end
local data, info, marks = {}, {}, {}
if n > 0 then
  local place = l.skip + from - l.first
  data = call('LRANGE', MSGS, place, place + n - 1)
  if l.marked == 1 then info = call('LRANGE', INFO, place, place + n - 1) end
end
if ARGV[5] == '1' and l.marked == 1 and l.n > old then marks = call('LRANGE', INFO, old, -1) end
return {l.epoch, l.top, first, unread, l.top + l.changes, l.truncated, now, from, data, info, marks}
