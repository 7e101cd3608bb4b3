--[[ Takes the holes out of the slots of a shard that many miners have left: gives miners at the top the slots that are free, a few
in each call. Until it is done, free slots are in `slots:holes`, and verify calls them lost.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME
ARGV[2]   steps  slots taken off the top, at most a dozen

RETURNS {'ok', 1 while there is more to do, slots that there are}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "remove"
--- @include "slot"

local clock, steps = ARGV[1], tonumber(ARGV[2])
local FREE, HOLES, NEXT = P .. 'slots:free', P .. 'slots:holes', P .. 'slots:next'
local POPS = 500

local now = clock_ms(clock)
if redis.call('EXISTS', HOLES) == 0 and redis.call('EXISTS', FREE) == 1 then redis.call('RENAME', FREE, HOLES) end

local slots = tonumber(redis.call('GET', NEXT) or 0)

local function take_hole()
  for _ = 1, POPS do
    local hole = redis.call('LPOP', HOLES)
    if not hole then return nil end
    -- Those at the top have gone with it; a rebuild meanwhile has freed the others again.
    if tonumber(hole) < slots - 1 and not holder_of(hole) then
      redis.call('LREM', FREE, 0, hole)
      return hole
    end
  end
end

local function settle_at(miner, slot)
  local terms, from = static_terms(stored_profile(miner.id)), miner.slot
  move_static(from, terms, {})
  move_bins(miner, {})
  redis.call('HDEL', P .. 'records', from)
  redis.call('ZREM', P .. 'prices', from)
  redis.call('ZREM', P .. 'etas', from)
  move_static(slot, {}, terms)
  miner.slot, miner.keeps_latency_norm = slot, true
  miner.indexed.bins, miner.indexed.price, miner.indexed.eta_ms = '', '', ''
  settle(miner, now)
end

for _ = 1, steps do
  if slots == 0 then redis.call('DEL', HOLES) end
  if redis.call('EXISTS', HOLES) == 0 then break end
  local top = text_of(slots - 1)
  local id = holder_of(top)
  if id then
    local hole = take_hole()
    if not hole then break end
    settle_at(load_miner(id), hole)
  else
    redis.call('LREM', FREE, 0, top)
  end
  slots = slots - 1
  redis.call('SET', NEXT, text_of(slots))
end
return { 'ok', redis.call('EXISTS', HOLES), slots }
