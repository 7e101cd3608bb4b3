--[[ Puts what copy_out read into its new shard, unless something newer is there.

KEYS[1]   shard prefix
ARGV[1]   clock   ms, or '' for Redis TIME; not used
ARGV[2]   name    'job:<id>' | 'reservation:<id>'
ARGV[3]   ttl_ms  -1 for none
ARGV[4]   state   '' for a job
ARGV[5..] field, value

RETURNS {'ok'} | {'there'}
]]
--- @include "base"

local name, ttl_ms, state = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local FIRST_FIELD = 5

local key, id = P .. name, string.match(name, '^reservation:(.+)$')
if redis.call('EXISTS', key) == 1 then
  -- An end outdoes the reservation that it ended; nothing else is replaced.
  if redis.call('HGET', key, 'state') ~= 'held' or state == 'held' then return { 'there' } end
  redis.call('ZREM', P .. 'reservations', id)
end
redis.call('HSET', key, unpack(ARGV, FIRST_FIELD))
if ttl_ms >= 0 then redis.call('PEXPIRE', key, math.max(1, ttl_ms)) end
if state == 'held' then redis.call('ZADD', P .. 'reservations', redis.call('HGET', key, 'until_ms'), id) end
return { 'ok' }
