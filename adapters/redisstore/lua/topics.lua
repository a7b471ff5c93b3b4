-- Append for one or several topics, each by its callers. What comes before this is the function whole, which does it for one.
-- KEYS: for each topic log, messages, two hashes of keys, info, due, and leases of the room.
-- ARGV: 1 an epoch, for logs that need one; 2 how to publish; then for each topic: "<messages> <bytes> <age> " to keep,
-- how many arguments follow; and for each caller as append.lua has them.
-- Returns for each topic what append.lua returns; or, of several topics, "!" and why it has failed.
local function append(k, keep, a, last)
  local messages, bytes, age = string.match(keep, '(%d+) (%d+) (%d+)')
  local args = {ARGV[1], messages, bytes, age, ARGV[2], string.sub(KEYS[k], 1, -4) .. 'live'}
  for i = a, last do args[#args + 1] = ARGV[i] end
  return whole({KEYS[k], KEYS[k + 1], KEYS[k + 4], KEYS[k + 5], KEYS[k + 2], KEYS[k + 3], KEYS[k + 6]}, args)
end

local answers, a = {}, 3
for k = 1, #KEYS, 7 do
  local keep, last = ARGV[a], a + 1 + ARGV[a + 1]
  if #KEYS == 7 then return {append(k, keep, a + 2, last)} end
  local ok, answer = pcall(append, k, keep, a + 2, last)
  if not ok then
    if type(answer) == 'table' then answer = answer.err end
    if string.find(answer, 'READONLY', 1, true) then return {err = answer} end -- nothing at all was written, and the client is to know
    answer = '!' .. answer
  end
  answers[#answers + 1] = answer
  a = last + 1
end
return answers
