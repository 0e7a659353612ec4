-- Places of a key, of which each is held until its holder leaves or its time is up.
-- KEYS[1]: a sorted set of holders by the time at which their place is free again, in microseconds.
-- ARGV: now (0 = the clock of this server), places, holder, for how long.
-- Answers 1 and how many places are left if the holder has one, else 0 and the microseconds until the next place is free at
-- the latest.
local now = tonumber(ARGV[1])
if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local places, lifetime = tonumber(ARGV[2]), tonumber(ARGV[4])
local function text(number) return string.format('%.0f', number) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
local held = redis.call('ZCARD', KEYS[1])
if held >= places then
    return {0, tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) - now}
end
redis.call('ZADD', KEYS[1], text(now + lifetime), ARGV[3])
local ttl = math.max(math.ceil(lifetime / 1000) + 1, redis.call('PTTL', KEYS[1]))
redis.call('PEXPIRE', KEYS[1], text(ttl))
return {1, places - held - 1}
