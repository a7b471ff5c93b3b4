-- claim: puts overdue entries off. ARGV: 1 an epoch, if a new one is needed; 2 lease; then offsets.
-- Returns epoch, when the next entry is overdue or '', and triples of offset, data and info of what was claimed.
local l = load(ARGV[1])
if not l then
  call('DEL', DUE)
  return {'', '', {}}
end
local old = aged(l)
local got, gone, dues = {}, {}, {}
for i = 3, #ARGV do
  local offset = tonumber(ARGV[i])
  local score = tonumber(call('ZSCORE', DUE, offset) or '')
  if score and score <= now * 1000 + 999 then -- else another caller was faster, or it was received
    local place = offset - l.first
    local info = place >= old and place < l.n and call('LINDEX', INFO, place)
    local _, _, _, expires = parse(info or '0 0')
    if info and (expires == 0 or expires > now) then
      got[#got + 1] = offset
      got[#got + 1] = call('LINDEX', MSGS, place)
      got[#got + 1] = info
      dues[#dues + 1] = (now + tonumber(ARGV[2])) * 1000 + min(i, 999)
      dues[#dues + 1] = offset
    else
      gone[#gone + 1] = offset
    end
  end
end
forget(gone)
slices(dues, function(...) call('ZADD', DUE, 'XX', ...) end)
return {l.epoch, call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2] or '', got}
