--[[ A hub replica says that it is there. After a silence longer than a lease (no hub could take heartbeats) the leases
get one fresh grace period before anything is removed.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME

RETURNS {'ok'} | {'outage', silence (ms)}
]]
--- @include "base"

local clock = ARGV[1]

local now = clock_ms(clock)
local stats = P .. 'stats'
local seen = tonumber(redis.call('HGET', stats, 'hub_seen_ms') or now)
redis.call('HSET', stats, 'hub_seen_ms', text_of(now))
if now - seen <= C.session_ttl_ms then return { 'ok' } end
redis.call('HSET', stats, 'hold_until_ms', text_of(now + C.grace_ms))
return { 'outage', text_of(now - seen) }
