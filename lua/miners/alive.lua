--[[ A hub replica says that it is there. After a silence longer than a lease (no hub could take heartbeats) the leases
get one fresh grace period before anything is removed. Then takes some due steps, so that the registry stays right with
no worker running.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME
ARGV[2]   limit  due entries to step, of all kinds together

RETURNS {'ok'} | {'outage', silence (ms)}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"
--- @include "remove"
--- @include "price"
--- @include "due"

local clock, limit = ARGV[1], tonumber(ARGV[2])

local now = clock_ms(clock)
local stats = P .. 'stats'
local seen = tonumber(redis.call('HGET', stats, 'hub_seen_ms') or now)
redis.call('HSET', stats, 'hub_seen_ms', text_of(now))
local silence = now - seen
if silence > C.session_ttl_ms then
  redis.call('HSET', stats, 'hold_until_ms', text_of(now + C.grace_ms))
  redis.call('HINCRBY', stats, 'outage_ms', silence) -- service levels are not counted then (include/outage.lua)
end
step_due(now, limit)
if silence > C.session_ttl_ms then return { 'outage', text_of(silence) } end
return { 'ok' }
