--[[ Clears bits that no miner stands for.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used
ARGV[2..] term, slot  pairs, at most a few hundred

RETURNS {'ok', bits cleared}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "remove"
--- @include "carried"
--- @include "slot"

local FIRST_PAIR = 2

-- The terms of the miner at a slot as a set, by its profile and its bins.
local function terms_at(slot)
  local id, carried = holder_of(slot), {}
  if not id then return carried end
  for _, term in ipairs(static_terms(stored_profile(id))) do carried[term] = true end
  local stored = redis.call('HMGET', miner_key(id), 'bins', 'strategies')
  local bins, strategies = stored[1] or '', strategies_of(stored[2] or '')
  if readable_bins(bins, strategies) then each_bin_term(bins, strategies, function(term) carried[term] = true end) end
  return carried
end

local cleared, known = 0, {}
for i = FIRST_PAIR, #ARGV, 2 do
  local term, slot = ARGV[i], ARGV[i + 1]
  known[slot] = known[slot] or terms_at(slot)
  if not known[slot][term] and redis.call('GETBIT', P .. 'ix:' .. term, slot) == 1 then
    drop_counted(slot, term, any_counter_of(term))
    cleared = cleared + 1
  end
end
return { 'ok', cleared }
