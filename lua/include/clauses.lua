-- The clauses of a request as bitmaps. A clause is {name, need = {keys that must all hold}, ban = {keys of which none
-- may}, empty = true when nothing can satisfy it, loose = true when a limit cut a crowded bin and only the record can
-- tell}. Matching and explaining both build them here.

-- Bitmap keys of those terms that somebody carries.
local function present_keys(terms)
  local out = {}
  if #terms == 0 then return out end
  for i, count in ipairs(redis.call('HMGET', TERMS, unpack(terms))) do
    if count then out[#out + 1] = P .. 'ix:' .. terms[i] end
  end
  return out
end

-- Numbers of a family that somebody carries, from `from` up to `to`, ascending.
local function present_numbers(family, from, to)
  local out = {}
  for _, text in ipairs(redis.call('HKEYS', P .. 'count:' .. family)) do
    local number = tonumber(text)
    if number >= from and number <= to then out[#out + 1] = number end
  end
  table.sort(out)
  return out
end

local function number_keys(family, from, to)
  local out = present_numbers(family, from, to)
  for i, number in ipairs(out) do out[i] = P .. 'ix:' .. family .. ':' .. number end
  return out
end

local function needing(name, key)
  return { name = name, need = { key }, ban = {}, empty = key == nil }
end

local function banning(name, key)
  return { name = name, need = {}, ban = { key } }
end

local function list_clause(clause)
  local keys = present_keys(clause.terms)
  if clause.kind == 'any' then return needing(clause.name, union(keys)) end
  if clause.kind == 'none' then return banning(clause.name, union(keys)) end
  return { name = clause.name, need = keys, ban = {}, empty = #keys < #clause.terms }
end

-- "At least `minimum` GB", exact to the whole GB: a higher first digit, or the same one and a second digit as high.
local function size_clause(name, term, minimum)
  local whole = size_bin(minimum)
  local high, low = math.floor(whole / 64), whole % 64
  local keys = number_keys(term .. '-hi', high + 1, 63)
  local same = number_keys(term .. '-hi', high, high)
  if #same > 0 then
    local lows = union(number_keys(term .. '-lo', low, 63))
    if lows then keys[#keys + 1] = intersection({ same[1], lows }) end
  end
  local clause = needing(name, union(keys))
  clause.loose = minimum ~= whole
  return clause
end

-- Settles the one cell that a limit cuts through, by the sorted set: adds to `fails` those above the limit.
-- Returns true when both sides are too many and only the record can tell.
local function settle_cut(fails, cell, zset, floor, limit, ceiling)
  local above = redis.call('ZCOUNT', zset, '(' .. text_of(limit), ceiling)
  if above == 0 then return false end
  if above <= C.walk.cut then
    for _, slot in ipairs(redis.call('ZRANGEBYSCORE', zset, '(' .. text_of(limit), ceiling)) do
      redis.call('SETBIT', fails, slot, 1)
    end
    return false
  end
  local below = redis.call('ZCOUNT', zset, floor, text_of(limit))
  if below > C.walk.cut then return true end
  redis.call('BITOP', 'OR', fails, fails, cell)
  for _, slot in ipairs(redis.call('ZRANGEBYSCORE', zset, floor, text_of(limit))) do
    redis.call('SETBIT', fails, slot, 0)
  end
  return false
end

-- "At most `limit`", as a ban of those above: the higher bins, and what the cut bin holds above the limit. A value
-- that is unknown has no bin, and passes. `fine` names the eighths of the bin, where there are any.
local function limit_clause(name, term, fine, zset, unit, limit)
  local bin, eighth = log_bin(limit, unit)
  local fails = temporary()
  local keys = number_keys(term, bin + 1, TOP_BIN)
  local cut = number_keys(term, bin, bin)[1]
  local floor, ceiling = log_bin_floor(bin, 0, unit), log_bin_floor(bin + 1, 0, unit)
  if bin == TOP_BIN then ceiling = '+inf' end
  if cut and fine and bin > 0 and bin < TOP_BIN then
    local higher = union(number_keys(fine, eighth + 1, 7))
    if higher then keys[#keys + 1] = intersection({ cut, higher }) end
    local same = number_keys(fine, eighth, eighth)[1]
    cut = same and intersection({ cut, same })
    floor, ceiling = log_bin_floor(bin, eighth, unit), log_bin_floor(bin, eighth + 1, unit)
  end
  -- An upper edge a hair higher: a value there is above the limit all the same, so banning it is right.
  if ceiling ~= '+inf' then ceiling = text_of(ceiling * (1 + 1e-9)) end
  if #keys > 0 then combine('OR', fails, keys) end
  local clause = banning(name, fails)
  if cut then clause.loose = settle_cut(fails, cut, zset, text_of(floor), limit, ceiling) end
  return clause
end

local function exclude_clause(ids)
  local banned = temporary()
  for _, id in ipairs(ids) do
    local slot = redis.call('HGET', P .. 'miner:' .. id, 'slot')
    if slot then redis.call('SETBIT', banned, slot, 1) end
  end
  return banning('exclude_miners', banned)
end

-- All clauses of a request, in the order in which they are explained.
local function build_clauses(request)
  local out = {}
  for _, clause in ipairs(request.clauses) do out[#out + 1] = list_clause(clause) end
  if request.min_vram_gb then out[#out + 1] = size_clause('min_vram_gb', 'vram', request.min_vram_gb) end
  if request.min_ram_gb then out[#out + 1] = size_clause('min_ram_gb', 'ram', request.min_ram_gb) end
  if request.max_price then
    out[#out + 1] = limit_clause('max_price', 'price', 'price-fine', P .. 'prices', PRICE_UNIT, request.max_price)
  end
  if request.deadline_ms then
    out[#out + 1] = limit_clause('deadline_ms', 'eta', nil, P .. 'etas', ETA_UNIT, request.deadline_ms)
  end
  if #request.exclude > 0 then out[#out + 1] = exclude_clause(request.exclude) end
  return out
end

-- Writes to `target` the miners of `base` that satisfy all clauses but `left_out` (an index, or nil).
-- Returns false, and writes nothing, when none can.
local function feasible_set(target, base, clauses, left_out)
  local need, ban = { base }, {}
  for i, clause in ipairs(clauses) do
    if i ~= left_out then
      if clause.empty then return false end
      for _, key in ipairs(clause.need) do need[#need + 1] = key end
      for _, key in ipairs(clause.ban) do ban[#ban + 1] = key end
    end
  end
  if #need == 1 then need[2] = base end
  combine('AND', target, need)
  if #ban > 0 then subtract(target, union(ban), temporary()) end
  return true
end

-- The exact checks: what the bins only bound. `eta` is -1 when unknown.
local function record_passes(request, price, vram, ram, eta)
  if request.max_price and price > request.max_price then return false end
  if request.min_vram_gb and vram < request.min_vram_gb then return false end
  if request.min_ram_gb and ram < request.min_ram_gb then return false end
  return not (request.deadline_ms and eta > request.deadline_ms)
end
