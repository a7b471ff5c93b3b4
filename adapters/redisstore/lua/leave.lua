-- Leave. ARGV: 1 node; then user ids.
check()
local users = {}
for i = 2, #ARGV do users[i - 1] = ARGV[i] end
leave(users, ARGV[1])
expire()
return 1
