--[[ Sets or lifts the price override of a live miner.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   price     decimal string, or '' to lift
ARGV[4]   until_ms  when it ends by itself, or ''

RETURNS {'ok'} | {'unknown_miner'}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "price"

local clock, miner_id, price, until_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local now = clock_ms(clock)
local miner = load_miner(miner_id)
if not miner then return { 'unknown_miner' } end
local pricing = load_pricing(miner_id)
set_override(miner_id, pricing, price, until_ms)
store_pricing(miner_id, pricing)
apply_pricing(miner, pricing, now)
settle(miner, now)
return { 'ok' }
