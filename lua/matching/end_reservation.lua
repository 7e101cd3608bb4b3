--[[ Confirms (one more in queue_len until the miner's next heartbeat) or releases a reservation. The same call again
gives the same answer.

KEYS[1]   shard prefix
ARGV[1]   clock           ms, or '' for Redis TIME
ARGV[2]   reservation_id
ARGV[3]   outcome         'confirmed' | 'released'

RETURNS {'ok', job_id, miner_id} | {'ended', how it ended} | {'unknown'}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"

local clock, reservation_id, outcome = ARGV[1], ARGV[2], ARGV[3]

local now = clock_ms(clock)
local was = state_of(reservation_id, now)
if not was then return { 'unknown' } end
if was ~= 'held' and was ~= outcome then return { 'ended', was } end
end_reservation(reservation_id, now, outcome)
local about = redis.call('HMGET', reservation_key(reservation_id), 'job_id', 'miner_id')
return { 'ok', about[1], about[2] }
