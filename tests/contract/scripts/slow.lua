-- A message that ends with "slow" is answered after ten minutes, so that a turn can be found running; any
-- other at once.
return function(request)
    if request.text:match("slow%s*$") then return { text = "late", delay_ms = 600000 } end
    return "fast"
end
