-- The shard, the clock and number formatting. `C` (compiled in by the executor) holds the fleet-wide settings.
local P = KEYS[1]
local TERMS = P .. 'terms'

-- Milliseconds since the epoch by the clock of Redis, the one clock of all replicas; `override` is a test's clock.
local function clock_ms(override)
  if override ~= '' then return tonumber(override) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The shortest text that reads back as the same double: what is stored is exactly what was computed with.
local function text_of(number)
  if number == '' or number == nil then return '' end
  if number == math.floor(number) and math.abs(number) < 1e15 then return string.format('%.0f', number) end
  local short = string.format('%.15g', number)
  if tonumber(short) == number then return short end
  return string.format('%.17g', number)
end

-- Rounds to six decimals, so that a stored share is short to read and the same everywhere.
local function micro(number)
  return math.floor(number * 1e6 + 0.5) / 1e6
end

-- The miners of the pool, by those of this shard: shards are alike, but not while miners move between them.
local function fleet_of(count)
  return C.moving_fleet > 0 and C.moving_fleet or count * C.shards
end
