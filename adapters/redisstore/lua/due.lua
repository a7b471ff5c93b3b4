-- peek: which entries of a topic are overdue. ARGV: 1 how many at most.
-- Returns pairs of offset and time, the longest overdue first.
return call('ZRANGE', KEYS[4], '-inf', now * 1000 + 999, 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
