-- Calls the tool lookup twice at once, then tells how many answered.
return function(request)
    if #request.calls > 0 then return "done: " .. #request.calls end
    return { tools = { { name = "lookup", input = { n = 1 } }, { name = "lookup", input = { n = 2 } } } }
end
