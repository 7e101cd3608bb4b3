-- How prices, times and sizes fall into bins.
local LOG_RATIO = math.log(1.25)
local PRICE_UNIT = 1e-6 -- upper edge of price bin 0
local ETA_UNIT = 1 -- ms; upper edge of eta and latency bin 0
local TOP_BIN = 127
local SIZE_TOP = 4095 -- GB; two digits of base 64
local STEPS = 1024

-- Logarithmic bin of ratio 1.25 (0 up to `unit`) and its eighth (0..7).
local function log_bin(value, unit)
  if value <= unit then return 0, 0 end
  local x = math.log(value / unit) / LOG_RATIO
  local whole = math.floor(x)
  if whole + 1 >= TOP_BIN then return TOP_BIN, 0 end
  return whole + 1, math.floor((x - whole) * 8)
end

-- Lowest value of a bin's eighth, a hair below for rounding.
local function log_bin_floor(bin, fine, unit)
  if bin == 0 then return 0 end
  return unit * math.exp((bin - 1 + fine / 8) * LOG_RATIO) * (1 - 1e-12)
end

-- Whole GB, as far as the index tells them apart; unknown sizes have no term.
local function size_bin(gb)
  return math.min(SIZE_TOP, math.floor(gb))
end
