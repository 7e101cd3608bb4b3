-- The packed record of a slot: what exact scoring needs, read many at a time with one HMGET.
-- Layout, little endian: lease_until_ms, price, vram_gb, ram_gb, eta_ms as doubles (-1 = unknown), one unsigned
-- 16-bit static step per strategy, then the miner id.
local RECORD_FORMAT = '<ddddd' .. string.rep('H', #C.strategies)
local RECORD_ID = 41 + 2 * #C.strategies

local function pack_record(lease_until, price, vram, ram, eta, steps, id)
  return struct.pack(RECORD_FORMAT, lease_until, price, vram, ram, eta, unpack(steps)) .. id
end

local function record_id(record)
  return string.sub(record, RECORD_ID)
end
