--[[ The reaper: takes due leases, reservations and price overrides a step further, in a bounded batch.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME
ARGV[2]   limit  entries, of all kinds together

RETURNS {'ok', stepped, degraded, removed, held}
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

local counts = step_due(clock_ms(clock), limit)
return { 'ok', counts.stepped, counts.degraded, counts.removed, counts.held }
