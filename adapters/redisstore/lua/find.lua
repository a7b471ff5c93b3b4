-- Which topics may have something overdue. KEYS: 1 a part of the index, 2 topics to look at once more (sorted set by time).
-- ARGV: 1 how many. Returns pairs of topic and time, and topics to look at once more.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
return {redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES'),
  redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])}
