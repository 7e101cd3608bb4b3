-- Writing the index: bitmaps `ix:<term>`, their counts in `terms`, and the latency histograms.
local TERMS = P .. 'terms'

local function add_term(slot, term)
  redis.call('SETBIT', P .. 'ix:' .. term, slot, 1)
  redis.call('HINCRBY', TERMS, term, 1)
end

-- A term that nobody carries any more is deleted, so that memory follows the fleet that is there.
local function drop_term(slot, term)
  if redis.call('HINCRBY', TERMS, term, -1) > 0 then
    redis.call('SETBIT', P .. 'ix:' .. term, slot, 0)
  else
    redis.call('HDEL', TERMS, term)
    redis.call('DEL', P .. 'ix:' .. term)
  end
end

local function swap_term(slot, old, new)
  if old == new then return end
  if old then drop_term(slot, old) end
  if new then add_term(slot, new) end
end

local function count_latency(region, bucket, by)
  if bucket < 0 then return end
  if redis.call('HINCRBY', P .. 'latency:' .. region, bucket, by) <= 0 then
    redis.call('HDEL', P .. 'latency:' .. region, bucket)
  end
end

-- Moves a slot from the bins `old` (text, '' for a new miner) to `new` (list; empty to leave the index).
local function move_bins(slot, region, old, new)
  local position = 0
  for text in string.gmatch(old, '[^,]+') do
    position = position + 1
    local was, is = tonumber(text), new[position]
    if was ~= is then
      local was_a, was_b = bin_terms(position, was)
      local is_a, is_b
      if is then is_a, is_b = bin_terms(position, is) end
      swap_term(slot, was_a, is_a)
      swap_term(slot, was_b, is_b)
      if position == AT_LATENCY then
        count_latency(region, was, -1)
        if is then count_latency(region, is, 1) end
      end
    end
  end
  for added = position + 1, #new do
    local a, b = bin_terms(added, new[added])
    swap_term(slot, nil, a)
    swap_term(slot, nil, b)
    if added == AT_LATENCY then count_latency(region, new[added], 1) end
  end
end

-- Moves a slot from the static terms `old` to `new` (lists without duplicates).
local function move_static(slot, old, new)
  local keep = {}
  for _, term in ipairs(new) do keep[term] = true end
  local had = {}
  for _, term in ipairs(old) do
    had[term] = true
    if not keep[term] then drop_term(slot, term) end
  end
  for _, term in ipairs(new) do
    if not had[term] then add_term(slot, term) end
  end
end

-- True when the shard may take the new terms among these: the distinct terms of a shard are bounded.
local function terms_fit(new)
  local known = redis.call('HLEN', TERMS)
  if known + #new <= C.max_terms then return true end
  local fresh = 0
  for _, term in ipairs(new) do
    if redis.call('HEXISTS', TERMS, term) == 0 then fresh = fresh + 1 end
  end
  return known + fresh <= C.max_terms
end
