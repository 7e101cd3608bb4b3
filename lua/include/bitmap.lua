-- Bitmaps of the running call. Temporaries live under `tmp:` and never reach the AOF or a replica; `with_temporaries`
-- deletes them whatever happens.
local FAN_IN = 15 -- BITOP is fast for at most 16 sources
local temporaries = {}

local function temporary()
  local key = P .. 'tmp:' .. #temporaries + 1
  temporaries[#temporaries + 1] = key
  return key
end

-- BITOP AND or OR over any number of keys.
local function combine(operation, target, keys)
  local first = math.min(#keys, FAN_IN)
  redis.call('BITOP', operation, target, unpack(keys, 1, first))
  while first < #keys do
    local last = math.min(#keys, first + FAN_IN - 1)
    redis.call('BITOP', operation, target, target, unpack(keys, first + 1, last))
    first = last
  end
end

-- The union of some keys: nil of none, the key itself of one, a temporary of several.
local function union(keys)
  if #keys <= 1 then return keys[1] end
  local target = temporary()
  combine('OR', target, keys)
  return target
end

local function intersection(keys)
  if #keys == 1 then return keys[1] end
  local target = temporary()
  combine('AND', target, keys)
  return target
end

-- Clears in `target` the bits of `banned`; `scratch` is overwritten.
local function subtract(target, banned, scratch)
  redis.call('BITOP', 'AND', scratch, target, banned)
  redis.call('BITOP', 'XOR', target, target, scratch)
end

-- Appends to `out` the set bits of a bitmap from `from` to `to` (inclusive; '-1' the end), at most `limit` of them.
-- Constants are strings here: a number costs Redis a printf each.
local function collect_bits(key, from, to, limit, out)
  local at, found = from, 0
  while found < limit do
    local bit = redis.call('BITPOS', key, '1', at, to, 'BIT')
    if bit < 0 then return found end
    found = found + 1
    out[#out + 1] = bit
    if bit == to then return found end
    at = bit + 1
  end
  return found
end

-- Runs `body`, then deletes the temporaries; an error goes on after that.
local function with_temporaries(body)
  redis.set_repl(redis.REPL_NONE)
  local ok, result = pcall(body)
  if #temporaries > 0 then redis.call('DEL', unpack(temporaries)) end
  redis.set_repl(redis.REPL_ALL)
  if not ok then error(result) end
  return result
end
