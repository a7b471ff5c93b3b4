local told, id -- by the server

-- server returns what names the history of writes of this server: a replica that takes over has another one, and so
-- has a server that was started again. Empty if it may not be asked.
local function server()
  if not id then
    told = redis.pcall('INFO', 'replication')
    if type(told) ~= 'string' then told = '' end
    local _, from = string.find(told, 'master_replid:', 1, true)
    id = from and string.match(told, '^%w+', from + 1) or ''
  end
  return id
end

-- promoted reports whether this server has taken over from another one, since it was started.
local function promoted()
  server()
  return string.match(told, 'master_replid2:0*(%w?)') ~= '' -- without one it is all zeros
end
