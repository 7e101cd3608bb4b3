--[[ Starts reserving for a job: takes the job's lock and reads what an earlier request planned.

KEYS[1]   shard prefix; the home shard of the job
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   job_id
ARGV[3]   token     of the lock; only its holder ends it
ARGV[4]   lock_ms   the lock ends by itself after this long

RETURNS {'ok', plan ('' none)} | {'busy'}
]]
--- @include "base"

local clock, job_id, token, lock_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local now = clock_ms(clock)
local key = P .. 'job:' .. job_id
local job = redis.call('HMGET', key, 'plan', 'lock', 'lock_until_ms')
local locked = job[2] and job[2] ~= '' and job[2] ~= token -- a call whose answer was lost finds its own lock
if locked and tonumber(job[3]) > now then return { 'busy' } end
redis.call('HSET', key, 'lock', token, 'lock_until_ms', text_of(now + lock_ms))
if not job[1] then redis.call('PEXPIRE', key, lock_ms) end
return { 'ok', job[1] or '' }
