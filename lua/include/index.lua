-- Writing the index: bitmaps `ix:<term>`, their counts (`terms`; `count:<family>` for numbers), and the histograms.

-- Sets or clears a slot in the bitmap of a term, and counts it. A term that nobody carries any more is deleted, so that
-- memory follows the fleet that is there.
local function add_counted(slot, term, counts, field)
  redis.call('SETBIT', P .. 'ix:' .. term, slot, 1)
  redis.call('HINCRBY', counts, field, 1)
end

local function drop_counted(slot, term, counts, field)
  if redis.call('HINCRBY', counts, field, -1) > 0 then
    redis.call('SETBIT', P .. 'ix:' .. term, slot, 0)
  else
    redis.call('HDEL', counts, field)
    redis.call('DEL', P .. 'ix:' .. term)
  end
end

local function swap_number(slot, family, old, new)
  if old == new then return end
  local counts = P .. 'count:' .. family
  if old and old >= 0 then drop_counted(slot, family .. ':' .. old, counts, old) end
  if new and new >= 0 then add_counted(slot, family .. ':' .. new, counts, new) end
end

local function swap_flag(slot, terms, old, new)
  local was, is = terms[old], terms[new]
  if was then drop_counted(slot, was, TERMS, was) end
  if is then add_counted(slot, is, TERMS, is) end
end

local function count_latency(region, bucket, by)
  if bucket and bucket >= 0 and redis.call('HINCRBY', P .. 'latency:' .. region, bucket, by) <= 0 then
    redis.call('HDEL', P .. 'latency:' .. region, bucket)
  end
end

local function high_digit(step)
  return step and math.floor(step / 32)
end

local function low_digit(step)
  return step and step % 32
end

-- The strategies that this call knows, whose steps stand in the bins; and as text.
local STRATEGIES = {}
for i, strategy in ipairs(C.strategies) do STRATEGIES[i] = strategy.name end
local STRATEGY_NAMES = table.concat(STRATEGIES, ',')

-- The strategies whose steps stand in the bins of a miner, by its field `strategies`.
local function strategies_of(names)
  if names == '' or names == STRATEGY_NAMES then return STRATEGIES end
  local out = {}
  for name in string.gmatch(names, '[^,]+') do out[#out + 1] = name end
  return out
end

-- Moves one position of a slot's bins, whose steps are those of `strategies`; nil stands for "not in the index".
local function move_bin(slot, region, position, old, new, strategies)
  if position >= AT_STEPS then
    local name = strategies[position - AT_STEPS + 1]
    if not name then return end
    swap_number(slot, 'level:' .. name, high_digit(old), high_digit(new))
    swap_number(slot, 'fine:' .. name, low_digit(old), low_digit(new))
  elseif position == AT_LATENCY then
    count_latency(region, old, -1)
    count_latency(region, new, 1)
  elseif FAMILIES[position] then
    swap_number(slot, FAMILIES[position], old, new)
  else
    swap_flag(slot, FLAGS[position], old or 0, new or 0)
  end
end

-- Moves a miner from the bins `old` (text) to `new` (list).
local function change_bins(miner, old, new, strategies)
  local position = 0
  for text in string.gmatch(old, '[^,]+') do
    position = position + 1
    local was = tonumber(text)
    if was ~= new[position] then move_bin(miner.slot, miner.region, position, was, new[position], strategies) end
  end
  for added = position + 1, #new do move_bin(miner.slot, miner.region, added, nil, new[added], strategies) end
end

-- Whether a hub with other strategies settled the miner last: while the hubs are restarted for new ones, both kinds are at work.
local function is_of_others(indexed)
  return indexed.strategies ~= '' and indexed.strategies ~= STRATEGY_NAMES
end

-- Moves a miner from the bins that it has in the index to `new` (list; empty to leave the index).
local function move_bins(miner, new)
  local old = miner.indexed.bins
  if is_of_others(miner.indexed) then
    change_bins(miner, old, {}, strategies_of(miner.indexed.strategies))
    old = ''
  end
  change_bins(miner, old, new, STRATEGIES)
end

-- Takes a miner out of the histogram of its region, before it is settled in another.
local function change_region(miner, region)
  if region == miner.region then return end
  move_bins(miner, {})
  miner.indexed.bins, miner.region = '', region
end

-- Where a static term is counted: sizes are numbers of a family, everything else is a field of `terms`.
local function counter_of(term)
  local family, number = string.match(term, '^(v?ram%-[hl][io]):(%d+)$')
  if family then return P .. 'count:' .. family, number end
  return TERMS, term
end

local function set_of(list)
  local set = {}
  for _, value in ipairs(list) do set[value] = true end
  return set
end

-- Moves a slot from the static terms `old` to `new` (lists without duplicates).
local function move_static(slot, old, new)
  local had, keeps = set_of(old), set_of(new)
  for _, term in ipairs(old) do
    if not keeps[term] then drop_counted(slot, term, counter_of(term)) end
  end
  for _, term in ipairs(new) do
    if not had[term] then add_counted(slot, term, counter_of(term)) end
  end
end

-- The first of the static terms `new` that the shard has no room for, as its distinct terms are bounded; nil when it may take
-- all of them. Those of `old`, which the miner has now, make room where nobody else has them.
local function term_without_room(old, new)
  local room = C.max_terms - redis.call('HLEN', TERMS)
  if #new <= room then return nil end
  local keeps, fresh = set_of(new), {}
  for _, term in ipairs(new) do
    if counter_of(term) == TERMS and redis.call('HEXISTS', TERMS, term) == 0 then fresh[#fresh + 1] = term end
  end
  for _, term in ipairs(old) do
    if not keeps[term] and redis.call('HGET', TERMS, term) == '1' then room = room + 1 end
  end
  return fresh[math.max(0, room) + 1]
end
