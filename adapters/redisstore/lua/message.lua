-- message returns what to publish for the caller whose arguments begin at a and end before after: after a header the payload, or,
-- as that mostly holds the data of the entries, the pieces of it that are between them.
local function message(args, header, a, after)
  local text = args[a + 2]
  if args[a + 1] == '1' then return header .. text end
  if after == a + 7 then return header .. text .. args[a + 4] .. args[a + 6] end
  local parts = {header, text}
  for e = a + 3, after - 1, 4 do parts[#parts + 1], parts[#parts + 2] = args[e + 1], args[e + 3] end
  return table.concat(parts)
end
