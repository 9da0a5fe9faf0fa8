-- Answers with its system prompt.
return function(request)
    local blocks = {}
    if type(request.system) == "string" then return request.system end
    for i, block in ipairs(request.system or {}) do blocks[i] = block.text end
    return table.concat(blocks, "\n\n")
end
