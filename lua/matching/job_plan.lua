--[[ Writes the plan of a job before places are claimed: which reservations on which miners. Which of them are held is
told by the reservations themselves, so a crash between plan and claim loses nothing.

KEYS[1]   shard prefix; the home shard of the job
ARGV[1]   clock    ms, or '' for Redis TIME; not used
ARGV[2]   job_id
ARGV[3]   token    of the lock
ARGV[4]   plan     JSON, or '' to only give the lock back
ARGV[5]   keep_ms  how long the plan is kept at least: an earlier one may name places that are held for longer
ARGV[6]   unlock   '1' gives the lock back

RETURNS {'ok'} | {'lost'} (the lock ended meanwhile)
]]
--- @include "base"

local job_id, token, plan, keep_ms, unlock = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]

local key = P .. 'job:' .. job_id
if redis.call('HGET', key, 'lock') ~= token then return { 'lost' } end
if plan ~= '' then
  redis.call('HSET', key, 'plan', plan)
  redis.call('PEXPIRE', key, math.max(keep_ms, redis.call('PTTL', key)))
end
if unlock == '1' then redis.call('HDEL', key, 'lock', 'lock_until_ms') end
return { 'ok' }
