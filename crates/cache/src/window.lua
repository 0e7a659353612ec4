-- Sliding and fixed windows in whole milliseconds, the same as window.rs.
-- KEYS[1]: a hash of the window's start and its units, and the units of the one before.
-- ARGV: now in microseconds (0 = the clock of this server), want, least, length (0 = a month of UTC), quota, 1 if the window
-- slides.
-- Answers granted (0 = refused), remaining, wait, reset; times in microseconds.
local now = tonumber(ARGV[1])
if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
now = math.floor(now / 1000)
local want, least = tonumber(ARGV[2]), tonumber(ARGV[3])
local fixed, quota, slides = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'

-- The first day of the month of a day, both counted since 1970.
local function first_of_month(day)
    local of_era = (day + 719468) % 146097
    local no_leap = of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)
    local year = math.floor(no_leap / 365)
    local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local month = math.floor((5 * of_year + 2) / 153)
    return day - (of_year - math.floor((153 * month + 2) / 5))
end
-- When the window of an instant begins, and how long it is.
local function window(at)
    if fixed > 0 then return at - at % fixed, fixed end
    local first = first_of_month(math.floor(at / 86400000))
    return first * 86400000, (first_of_month(first + 31) - first) * 86400000
end
local start, length = window(now)

local stored = redis.call('HMGET', KEYS[1], 'start', 'current', 'previous')
local old, current, previous = tonumber(stored[1] or 0), tonumber(stored[2] or 0), tonumber(stored[3] or 0)
local function text(number) return string.format('%.0f', number) end
local function store(start, current, previous, reset)
    redis.call('HSET', KEYS[1], 'start', text(start), 'current', text(current), 'previous', text(previous))
    -- A little longer, because a key that ends within this moment would be gone at once.
    redis.call('PEXPIRE', KEYS[1], text(reset + 1000))
end
-- A clock that ran ahead.
if old > now + math.max(length, 10000) then
    old = start
    store(old, current, previous, 2 * length)
end
now = math.max(now, old)
start, length = window(now)
local elapsed = now - start
if start == old + length then
    current, previous = 0, current
elseif start ~= old then
    current, previous = 0, 0
end
if not slides then previous = 0 end

-- When `count` units of the window before weigh no more than `room`.
local function fits(count, room)
    if count <= room then return 0 end
    return length - math.floor(room * length / count)
end

local used = math.ceil(previous * (length - elapsed) / length) + current
local affordable = math.max(quota - used, 0)
if affordable < least then
    local free
    if current + least <= quota then
        free = fits(previous, quota - current - least)
    elseif slides then
        free = length + fits(current, math.max(quota - least, 0))
    else
        free = length
    end
    return {0, affordable, (free - elapsed) * 1000, 0}
end
local granted = math.min(want, affordable)
local periods = slides and 2 or 1
local reset = periods * length - elapsed
store(start, current + granted, previous, reset)
return {granted, affordable - granted, 0, reset * 1000}
