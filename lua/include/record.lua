-- The packed record of a slot: what exact scoring needs and what a match answers, read many at a time with one HMGET: the
-- miner's hash is not read again for either.
-- Layout, little endian: lease_until_ms, price, vram_gb, ram_gb, eta_ms as doubles (-1 = unknown), unsigned 16-bit
-- static steps with room for as many strategies as there may be (so that a record stays readable when the strategies
-- change), then lines of text: the miner id, and the fields ANSWERED as its hash has them.
local MAX_STRATEGIES = 8
local RECORD_FORMAT = '<ddddd' .. string.rep('H', #C.strategies) .. string.rep('xx', MAX_STRATEGIES - #C.strategies)
local RECORD_TEXT = 41 + 2 * MAX_STRATEGIES
local ANSWERED = { 'addr', 'proto', 'price', 'eta_ms', 'latency_norm', 'trust', 'queue_len', 'reserved', 'max_parallel' }

-- `miner` holds the fields ANSWERED as text.
local function pack_record(lease_until, price, vram, ram, eta, steps, miner)
  local lines = { miner.id }
  for i = 1, #ANSWERED do lines[i + 1] = miner[ANSWERED[i]] end
  return struct.pack(RECORD_FORMAT, lease_until, price, vram, ram, eta, unpack(steps)) .. table.concat(lines, '\n')
end

local function record_text(record)
  return string.sub(record, RECORD_TEXT)
end

local function record_id(record)
  local line_end = string.find(record, '\n', RECORD_TEXT, true)
  return string.sub(record, RECORD_TEXT, line_end and line_end - 1)
end
