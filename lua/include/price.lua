-- The effective price of a miner.

-- Sets `miner.price` (text): a live override or the miner's own price, never above the cap. `pricing` holds base_price,
-- price_override, price_override_until_ms and price_cap as text, '' where there is none.
local function apply_pricing(miner, pricing, now)
  local price = pricing.base_price
  if pricing.price_override ~= '' and now < number_or(pricing.price_override_until_ms, math.huge) then
    price = pricing.price_override
  end
  if pricing.price_cap ~= '' and tonumber(pricing.price_cap) < tonumber(price) then price = pricing.price_cap end
  miner.price = price
end

local function load_pricing(id)
  local v = redis.call('HMGET', miner_key(id), 'base_price', 'price_override', 'price_override_until_ms', 'price_cap')
  return {
    base_price = v[1] or '', price_override = v[2] or '', price_override_until_ms = v[3] or '', price_cap = v[4] or '',
  }
end

local function store_pricing(id, pricing)
  redis.call('HSET', miner_key(id), 'base_price', pricing.base_price, 'price_override', pricing.price_override,
    'price_override_until_ms', pricing.price_override_until_ms, 'price_cap', pricing.price_cap)
end

-- Sets or lifts ('' as price) an override; one with an end is due at it.
local function set_override(id, pricing, price, until_ms)
  pricing.price_override, pricing.price_override_until_ms = price, until_ms
  if price ~= '' and until_ms ~= '' then
    redis.call('ZADD', P .. 'overrides', until_ms, id)
  else
    redis.call('ZREM', P .. 'overrides', id)
  end
end
