-- The clauses of a request as bitmaps. A clause is {name, need = {keys that must all hold}, ban = {keys of which none
-- may}, empty = true when nothing can satisfy it, cut = {what a limit cuts through: the bitmap of the one bin of which
-- only the record can tell}}. Matching and explaining both build them here.

-- Bitmap keys of those terms that somebody carries.
local function present_keys(terms)
  local out = {}
  if #terms == 0 then return out end
  for i, count in ipairs(redis.call('HMGET', TERMS, unpack(terms))) do
    if count then out[#out + 1] = P .. 'ix:' .. terms[i] end
  end
  return out
end

-- Numbers of a family that somebody carries, from `from` up to `to`, ascending; and how many carry each, by number.
local function present_numbers(family, from, to)
  local out, carriers = {}, {}
  local counts = redis.call('HGETALL', P .. 'count:' .. family)
  for i = 1, #counts, 2 do
    local number = tonumber(counts[i])
    if number >= from and number <= to then
      out[#out + 1] = number
      carriers[number] = tonumber(counts[i + 1])
    end
  end
  table.sort(out)
  return out, carriers
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

-- "At least `minimum` GB", exact to the whole GB: a higher first digit, or the same one and a second digit as high. A
-- minimum with a fraction cuts through its own GB.
local function size_clause(name, term, minimum)
  local whole = size_bin(minimum)
  local high, low = math.floor(whole / 64), whole % 64
  local keys = number_keys(term .. '-hi', high + 1, 63)
  local same = number_keys(term .. '-hi', high, high)[1]
  local lows = same and union(number_keys(term .. '-lo', low, 63))
  if lows then keys[#keys + 1] = intersection({ same, lows }) end
  local clause = needing(name, union(keys))
  local exact = same and minimum ~= whole and number_keys(term .. '-lo', low, low)[1]
  if exact then clause.cut = { key = intersection({ same, exact }) } end
  return clause
end

-- "At most `limit`", as a ban of the higher bins; the bin (or its eighth, where `fine` names them) that the limit cuts
-- through is left to settle_cut. A value that is unknown has no bin, and passes.
local function limit_clause(name, term, fine, zset, unit, limit)
  local bin, eighth = log_bin(limit, unit)
  local keys = number_keys(term, bin + 1, TOP_BIN)
  local cut = { key = number_keys(term, bin, bin)[1], zset = zset, limit = text_of(limit) }
  local low, high = log_bin_floor(bin, 0, unit), log_bin_floor(bin + 1, 0, unit)
  if cut.key and fine and bin > 0 and bin < TOP_BIN then
    local higher = union(number_keys(fine, eighth + 1, 7))
    if higher then keys[#keys + 1] = intersection({ cut.key, higher }) end
    local same = number_keys(fine, eighth, eighth)[1]
    cut.key = same and intersection({ cut.key, same })
    low, high = log_bin_floor(bin, eighth, unit), log_bin_floor(bin, eighth + 1, unit)
  end
  cut.low, cut.high = text_of(low), bin == TOP_BIN and '+inf' or text_of(high * (1 + 1e-9))
  local clause = banning(name, union(keys))
  if cut.key then clause.cut = cut end
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

-- The exact checks: what the bins only bound. `eta` is -1 when unknown.
local function record_passes(request, price, vram, ram, eta)
  if request.max_price and price > request.max_price then return false end
  if request.min_vram_gb and vram < request.min_vram_gb then return false end
  if request.min_ram_gb and ram < request.min_ram_gb then return false end
  return not (request.deadline_ms and eta > request.deadline_ms)
end

-- Settles, in `target`, the bin that a limit cuts through: few are read one by one; of many, the sorted set may know that
-- all pass or that none does. Returns true when neither holds, and `target` keeps some that only the record can refuse.
local function settle_cut(target, clause, request)
  local cut, inside = clause.cut, temporary()
  redis.call('BITOP', 'AND', inside, target, cut.key)
  if redis.call('BITPOS', inside, '1') < 0 then return false end
  if redis.call('BITCOUNT', inside) <= C.walk.cut then
    local slots, alone = {}, { [clause.name] = request[clause.name] }
    collect_bits(inside, 0, '-1', C.walk.cut, slots)
    for i, record in ipairs(redis.call('HMGET', P .. 'records', unpack(slots))) do
      local passes = false -- a bit without a record is a fault that `registry verify` reports, never a candidate
      if record then
        local _, price, vram, ram, eta = struct.unpack('<ddddd', record)
        passes = record_passes(alone, price, vram, ram, eta)
      end
      if not passes then redis.call('SETBIT', target, slots[i], '0') end
    end
    return false
  end
  if not cut.zset then return true end
  if redis.call('ZCOUNT', cut.zset, '(' .. cut.limit, cut.high) == 0 then return false end
  if redis.call('ZCOUNT', cut.zset, cut.low, cut.limit) > 0 then return true end
  redis.call('BITOP', 'XOR', target, target, inside)
  return false
end

-- Writes to `target` the miners of `base` that satisfy all clauses but `left_out` (an index, or nil). Returns how many
-- they are, and whether that counts some above a limit (see settle_cut).
local function feasible_set(target, base, clauses, request, left_out)
  local need, ban, loose = { base }, {}, false
  for i, clause in ipairs(clauses) do
    if i ~= left_out then
      if clause.empty then return 0, false end
      for _, key in ipairs(clause.need) do need[#need + 1] = key end
      for _, key in ipairs(clause.ban) do ban[#ban + 1] = key end
    end
  end
  combine('AND', target, need)
  if #ban > 0 then subtract(target, union(ban), temporary()) end
  if redis.call('BITPOS', target, '1') < 0 then return 0, false end
  for i, clause in ipairs(clauses) do
    if i ~= left_out and clause.cut and settle_cut(target, clause, request) then loose = true end
  end
  return redis.call('BITCOUNT', target), loose
end
