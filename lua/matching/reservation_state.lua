--[[ What a reservation is at this moment.

KEYS[1]   shard prefix
ARGV[1]   clock           ms, or '' for Redis TIME
ARGV[2]   reservation_id

RETURNS {'ok', 'held' | 'confirmed' | 'released' | 'expired' | 'lost' (its miner left) | 'moving'} | {'unknown'}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"

local clock, reservation_id = ARGV[1], ARGV[2]

local state = state_of(reservation_id, clock_ms(clock))
if not state then return { 'unknown' } end
return { 'ok', state }
