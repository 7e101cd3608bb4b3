-- The exact top K of a feasible set (docs/ARCHITECTURE.md, "A walk: one match"). Cells of (share of capabilities, price bin,
-- level of the static score) are taken by the highest score that they could still hold: a small one is read, a large one is
-- split by its next digit. Only cells that can still win are read. Stopping when K miners beat every bound left is the
-- threshold algorithm's rule (Fagin, Lotem, Naor, "Optimal aggregation algorithms for middleware", 2001), hence exact.
local SLACK = 1e-9 -- bounds lie this much above, so that rounding never hides a winner

-- Reads the records of slots and offers those that pass the exact checks. This is the inner loop of a match: the score is
-- written out (as in score_of), and no table is made for a miner that cannot win.
local function score_slots(walk, slots, fit)
  local scorer, podium, request, unpack_record = walk.scorer, walk.podium, walk.request, struct.unpack
  local format, top, by_price, by_step = scorer.format, scorer.price_top, scorer.price, scorer.static
  local fit_score, oldest, limited = scorer.cap * fit, walk.degraded and -1 or walk.now, walk.limited
  local passed = 0
  for from = 1, #slots, 1000 do
    local to = math.min(#slots, from + 999)
    local records = redis.call('HMGET', P .. 'records', unpack(slots, from, to))
    for i = 1, to - from + 1 do
      local record = records[i]
      if record then
        local lease, price, vram, ram, eta, step = unpack_record(format, record)
        if lease >= oldest and (not limited or record_passes(request, price, vram, ram, eta)) then
          passed = passed + 1
          local norm = 0
          if price < top then norm = 1 - price / top elseif top <= 0 and price <= 0 then norm = 1 end
          local score = fit_score + by_price * norm + by_step * step
          if score >= podium.worst then
            local distance = slots[from + i - 1] - walk.start
            if distance < 0 then distance = distance + walk.slots end
            podium_offer(podium, { score = score, distance = distance, fit = fit, price = price, record = record })
          end
        end
      end
    end
  end
  walk.read, walk.passed = walk.read + #slots, walk.passed + passed
end

-- True when all miners of one price eighth have one price: then any of them scores the same.
local function one_price(bin, eighth)
  if bin == TOP_BIN then return false end
  local zset, low = P .. 'prices', text_of(log_bin_floor(bin, eighth, PRICE_UNIT))
  local high = text_of(log_bin_floor(bin, bin == 0 and 8 or eighth + 1, PRICE_UNIT))
  if bin == 0 then low, high = '-inf', text_of(PRICE_UNIT) end
  local cheapest = redis.call('ZRANGE', zset, low, high, 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  local dearest = redis.call('ZRANGE', zset, high, low, 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')
  return cheapest[2] ~= nil and cheapest[2] == dearest[2]
end

-- A crowd that no digit tells apart: equal static score, prices within 2.8%. Read from the job's starting slot on until
-- enough have passed the exact checks: those that a limit or an ended lease refuses are no sample of the others.
local function sample_crowd(walk, key, cell, eighth)
  local alike = one_price(cell.bin, eighth)
  local enough = walk.passed + (alike and walk.k or math.max(C.walk.sample, walk.k))
  local function read_range(from, to)
    local batch = enough - walk.passed
    while walk.passed < enough and walk.read < C.walk.budget do
      local slots = {}
      collect_bits(key, from, to, batch, slots)
      score_slots(walk, slots, cell.fit)
      if #slots < batch or slots[#slots] == to then return true end
      from, batch = slots[#slots] + 1, C.walk.sample
    end
    return false
  end
  local all = read_range(walk.start, '-1') and (walk.start == 0 or read_range(0, walk.start - 1))
  if all or walk.passed >= enough then walk.tied = walk.tied or not (all or alike) else walk.truncated = true end
end

-- What the next intersection of a cell is with.
local BY_BIN, BY_LEVEL, BY_FINE, BY_EIGHTH = 1, 2, 3, 4

local function bin_floor(walk, bin)
  local floor = walk.floors[bin]
  if not floor then
    floor = log_bin_floor(bin, 0, PRICE_UNIT)
    walk.floors[bin] = floor
  end
  return floor
end

-- The bound of a cell: its fit, the lowest price and the highest step that its next intersection can hold.
local function rebound(walk, cell)
  local digit, floor, step = cell.digits[cell.at], cell.floor, cell.top
  if cell.by == BY_BIN then
    floor = bin_floor(walk, digit)
  elseif cell.by == BY_LEVEL then
    step = digit * 32 + 31
  elseif cell.by == BY_FINE then
    step = cell.high * 32 + digit
  else
    floor = log_bin_floor(cell.bin, digit, PRICE_UNIT)
  end
  cell.bound = score_of(walk.scorer, cell.fit, floor, step) + SLACK
end

local function enter(walk, cell)
  rebound(walk, cell)
  heap_push(walk.heap, cell)
end

-- The digits of a family that somebody carries, in the order in which cells are split by them, and at each place the
-- share that its carriers have in those from there on: what an intersection is likely to hold of what a cell has left.
local function digits_of(family, to, downward)
  local numbers, carriers = present_numbers(family, 0, to)
  local digits, shares, rest = {}, {}, 0
  for i = 1, #numbers do digits[i] = numbers[downward and #numbers + 1 - i or i] end
  for i = #digits, 1, -1 do
    rest = rest + carriers[digits[i]]
    shares[i] = carriers[digits[i]] / rest
  end
  digits.shares, digits.family = shares, P .. 'ix:' .. family .. ':'
  return digits
end

-- Which digits split a cell next: the price bin and the level first (in the order that the walk began with), then the
-- level's finer digit, then the bin's eighth.
local function choose_digits(walk, cell, by)
  if by == BY_BIN then
    cell.digits = walk.bins
  elseif by == BY_LEVEL then
    cell.digits = walk.levels
  elseif by == BY_FINE then
    walk.fines = walk.fines or digits_of('fine:' .. walk.strategy, 31, true)
    cell.digits = walk.fines
  else
    walk.eighths = walk.eighths or digits_of('price-fine', 7)
    cell.digits = walk.eighths
  end
  cell.by, cell.at = by, 1
  return cell
end

-- What a crowded intersection becomes: a cell of its own, which keeps the scratch bitmap.
local function split_crowd(walk, cell, digit, count)
  local child = { key = walk.scratch, left = count, fit = cell.fit, bin = cell.bin, floor = cell.floor, high = cell.high,
    top = cell.top }
  walk.scratch = temporary()
  local by = cell.by == BY_FINE and BY_EIGHTH or BY_FINE
  if cell.by == BY_BIN then
    child.bin, child.floor = digit, bin_floor(walk, digit)
  elseif cell.by == BY_LEVEL then
    child.high, child.top = digit, digit * 32 + 31
  else
    child.top = cell.high * 32 + digit
  end
  if not child.bin then by = BY_BIN elseif not child.high then by = BY_LEVEL end
  enter(walk, choose_digits(walk, child, by))
end

-- Takes the next intersection of the cell with the highest bound: reads it where it is small, splits it where not. Counting a
-- bitmap takes longer than making it, so what is likely to be small is read without being counted.
local function take(walk, cell)
  local scratch, digits, at, crowd = walk.scratch, cell.digits, cell.at, walk.crowd
  redis.call('BITOP', 'AND', scratch, cell.key, digits.family .. digits[at])
  local slots, count = {}, nil
  if cell.left * digits.shares[at] <= crowd / 2 then count = collect_bits(scratch, 0, '-1', crowd + 1, slots) end
  if not count or count > crowd then
    slots, count = {}, redis.call('BITCOUNT', scratch)
    if count <= crowd then collect_bits(scratch, 0, '-1', count, slots) end
  end
  cell.at, cell.left = at + 1, cell.left - count
  local more = cell.left > 0 and digits[cell.at]
  if count > crowd then
    if cell.by == BY_EIGHTH then
      sample_crowd(walk, scratch, cell, digits[at])
    else
      split_crowd(walk, cell, digits[at], count)
    end
  elseif count > 0 then
    score_slots(walk, slots, cell.fit)
  end
  if more then enter(walk, cell) end
end

-- Splits `set` by how many of the m capabilities a miner has: classes m..1, each {key, fit}. By dynamic programming:
-- at least j of the first i = at least j of the first i-1, or at least j-1 of them and the i-th (O'Neil & Quass 1997).
local function fit_classes(set, size, capability_keys, asked)
  if asked <= 1 then return { { key = set, fit = 1, size = size } } end
  local m = #capability_keys
  local at_least = {}
  for i, key in ipairs(capability_keys) do
    for j = math.min(i, m), i == m and 2 or 1, -1 do
      local from = j == 1 and set or at_least[j - 1]
      local more = temporary()
      redis.call('BITOP', 'AND', more, from, key)
      if at_least[j] then redis.call('BITOP', 'OR', at_least[j], at_least[j], more) else at_least[j] = more end
    end
  end
  at_least[1] = set
  local classes = {}
  for j = m, 1, -1 do
    local key = at_least[j]
    if at_least[j + 1] then
      key = temporary()
      redis.call('BITOP', 'XOR', key, at_least[j], at_least[j + 1])
    end
    local members = redis.call('BITPOS', key, '1') >= 0 and redis.call('BITCOUNT', key) or 0
    if members > 0 then classes[#classes + 1] = { key = key, fit = j / asked, size = members } end
  end
  return classes
end

-- Walks one feasible set. `walk`: request, scorer, podium, k, now, start, slots, strategy, degraded, loose; counts are
-- added to walk.read and walk.passed, and walk.truncated and walk.tied are set where they hold.
local function walk_set(walk, set, size, capability_keys)
  local classes = fit_classes(set, size, capability_keys, walk.request.capabilities)
  if size <= walk.few then
    for _, class in ipairs(classes) do
      local slots = {}
      collect_bits(class.key, 0, '-1', size, slots)
      if #slots > 0 then score_slots(walk, slots, class.fit) end
    end
    return true
  end
  walk.heap, walk.floors, walk.scratch = {}, {}, temporary()
  walk.levels = digits_of('level:' .. walk.strategy, 31, true)
  local top_bin = walk.request.max_price and log_bin(walk.request.max_price, PRICE_UNIT) or TOP_BIN
  walk.bins = digits_of('price', top_bin)
  -- Where price bins are small they are read outright. Else the digit that weighs more comes first: it parts the best from
  -- the rest in fewer steps.
  local first = BY_BIN
  if size > #walk.bins * walk.crowd and walk.scorer.static * (STEPS - 1) >= walk.scorer.price then first = BY_LEVEL end
  if #walk.bins == 0 or #walk.levels == 0 then return false end -- a damaged index; `registry verify` tells
  local cheapest = bin_floor(walk, walk.bins[1])
  local top = walk.levels[1] * 32 + 31
  for _, class in ipairs(classes) do
    local cell = { key = class.key, fit = class.fit, left = class.size, floor = cheapest, top = top }
    enter(walk, choose_digits(walk, cell, first))
  end
  while #walk.heap > 0 do
    local cell = heap_pop(walk.heap)
    if walk.podium.worst > cell.bound then break end
    if walk.read >= C.walk.budget then
      walk.truncated = true
      break
    end
    take(walk, cell)
  end
  return false
end
