-- The packed record of a slot: what exact scoring needs, read many at a time with one HMGET.
-- Layout, little endian: lease_until_ms, price, vram_gb, ram_gb, eta_ms as doubles (-1 = unknown), unsigned 16-bit
-- static steps with room for as many strategies as there may be (so that a record stays readable when the strategies
-- change), then the miner id.
local MAX_STRATEGIES = 8
local RECORD_FORMAT = '<ddddd' .. string.rep('H', #C.strategies) .. string.rep('xx', MAX_STRATEGIES - #C.strategies)
local RECORD_ID = 41 + 2 * MAX_STRATEGIES

local function pack_record(lease_until, price, vram, ram, eta, steps, id)
  return struct.pack(RECORD_FORMAT, lease_until, price, vram, ram, eta, unpack(steps)) .. id
end

local function record_id(record)
  return string.sub(record, RECORD_ID)
end
