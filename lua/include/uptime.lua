-- How long the online time of a miner that left is kept: days are closed within two.
local KEEP_UPTIME_MS = 2 * 86400000
