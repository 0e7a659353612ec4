-- The generic cell rate algorithm in whole microseconds, the same as gcra.rs.
-- KEYS[1]: the time at which the key would have regained everything it spent.
-- ARGV: now (0 = the clock of this server), want, least, interval, burst.
-- Answers granted (0 = refused), remaining, wait, reset.
local now = tonumber(ARGV[1])
if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local want, least = tonumber(ARGV[2]), tonumber(ARGV[3])
local interval, burst = tonumber(ARGV[4]), tonumber(ARGV[5])
local capacity = burst * interval
local ahead = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) - now, 0)
-- Sixteen digits: plain conversion to text would lose some.
local function text(number) return string.format('%.0f', number) end
local function store(reset) redis.call('SET', KEYS[1], text(now + reset), 'PX', text(math.ceil(reset / 1000) + 1)) end
-- A clock that ran ahead, or a slower policy of the same name.
local foreign = ahead > capacity + 10000000
if foreign then ahead = capacity end
local affordable = math.floor(math.max(capacity - ahead, 0) / interval)
if affordable < least then
    if foreign then store(ahead) end
    return {0, affordable, ahead + least * interval - capacity, 0}
end
local granted = math.min(want, affordable)
local reset = ahead + granted * interval
store(reset)
return {granted, affordable - granted, 0, reset}
