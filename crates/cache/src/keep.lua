-- Ends a load: frees the lock, and keeps the value unless it was invalidated meanwhile.
-- KEYS: as in look.lua.
-- ARGV: the process that loaded it, for how many milliseconds it is kept (0 = there is nothing to keep), the generations when
-- the load began, its mark, when it was loaded, its bytes.
-- Answers 0 if it was invalidated, else 1.
if redis.call('GET', KEYS[4]) == ARGV[1] then redis.call('DEL', KEYS[4]) end
local generations = (redis.call('GET', KEYS[2]) or '') .. '/' .. (redis.call('GET', KEYS[3]) or '')
if generations ~= ARGV[3] then return 0 end
if ARGV[2] ~= '0' then
    redis.call('HSET', KEYS[1], 'generations', generations, 'mark', ARGV[4], 'loaded_at', ARGV[5], 'bytes', ARGV[6])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
