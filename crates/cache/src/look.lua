-- What is kept of a value, and whether the asker is to load it.
-- KEYS: the value (a hash: generations, mark, loaded_at, bytes), the generation of its group, its own generation, and the lock
-- of the process that loads it.
-- ARGV: the microsecond since which it is fresh, the mark of the copy that the asker has, the asker, and for how many
-- milliseconds it locks.
-- Answers 0 = load it, 1 = another process loads it, 2 = it is fresh; the generations; when it was loaded, or 0 if nothing is
-- kept; its mark; its bytes, unless the asker has them.
local generations = (redis.call('GET', KEYS[2]) or '') .. '/' .. (redis.call('GET', KEYS[3]) or '')
local kept = redis.call('HMGET', KEYS[1], 'generations', 'mark', 'loaded_at')
local mark, loaded_at, bytes = '', 0, ''
if kept[1] == generations then
    mark, loaded_at = kept[2], tonumber(kept[3])
    if mark ~= ARGV[2] then bytes = redis.call('HGET', KEYS[1], 'bytes') end
end
local state = 0
if loaded_at > tonumber(ARGV[1]) then
    state = 2
elseif not redis.call('SET', KEYS[4], ARGV[3], 'NX', 'PX', ARGV[4]) and redis.call('GET', KEYS[4]) ~= ARGV[3] then
    state = 1
end
return {state, generations, loaded_at, mark, bytes}
