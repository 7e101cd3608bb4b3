-- Terms as a miner's hash says them, and where each is counted: for verifying and rebuilding the index.

-- The counter of any term: the hash and its field.
local function any_counter_of(term)
  local family, number = string.match(term, '^(.+):(%d+)$')
  local numbered = family == 'price' or family == 'price-fine' or family == 'eta'
  if numbered or (family and (string.find(family, '^level:') or string.find(family, '^fine:'))) then
    return P .. 'count:' .. family, number
  end
  return counter_of(term)
end

-- Calls `visit` with each term that the bins (text) of a miner stand for, with the steps of `strategies`.
local function each_bin_term(bins, strategies, visit)
  local position = 0
  for text in string.gmatch(bins, '[^,]+') do
    position = position + 1
    local value = tonumber(text)
    if position >= AT_STEPS then
      local name = strategies[position - AT_STEPS + 1]
      visit('level:' .. name .. ':' .. high_digit(value))
      visit('fine:' .. name .. ':' .. low_digit(value))
    elseif FLAGS[position] then
      if FLAGS[position][value] then visit(FLAGS[position][value]) end
    elseif FAMILIES[position] and value >= 0 then
      visit(FAMILIES[position] .. ':' .. value)
    end
  end
end

-- True when the bins have a step for each of the strategies, so that they can be read.
local function readable_bins(bins, strategies)
  local count = 0
  for text in string.gmatch(bins, '[^,]+') do
    count = count + 1
    if not string.find(text, '^%-?%d+$') then return false end
  end
  return count == AT_STEPS - 1 + #strategies
end
