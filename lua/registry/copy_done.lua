--[[ Deletes what was copied to another shard, unless it has changed since.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used
ARGV[2]   name   'job:<id>' | 'reservation:<id>'
ARGV[3]   state  as it was copied

RETURNS {'ok'} | {'changed'}
]]
--- @include "base"

local name, state = ARGV[2], ARGV[3]

local key = P .. name
if redis.call('EXISTS', key) == 0 then return { 'ok' } end
if (redis.call('HGET', key, 'state') or '') ~= state then return { 'changed' } end
redis.call('UNLINK', key)
local id = string.match(name, '^reservation:(.+)$')
if id then redis.call('ZREM', P .. 'reservations', id) end
return { 'ok' }
