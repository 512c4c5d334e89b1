// Exceptions stay on this side: every function turns them into an errno.
#include "text/sentencepiece.h"

#include "text/utf8.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <unistd.h>
#include <vector>

struct sentencepiece_model {
    sentencepiece::SentencePieceProcessor processor;
};

extern "C" int sentencepiece_load(const char *path, struct sentencepiece_model **out)
{
    if (access(path, R_OK) < 0)
        return -errno;
    try {
        auto *model = new struct sentencepiece_model;

        if (!model->processor.Load(path).ok()) {
            delete model;
            return -EBADMSG;
        }
        *out = model;
        return 0;
    } catch (const std::bad_alloc &) {
        return -ENOMEM;
    } catch (...) {
        return -EBADMSG;
    }
}

extern "C" void sentencepiece_destroy(struct sentencepiece_model **model)
{
    delete *model;
    *model = nullptr;
}

extern "C" size_t sentencepiece_size(const struct sentencepiece_model *model)
{
    return (size_t)model->processor.GetPieceSize();
}

extern "C" int sentencepiece_eos(const struct sentencepiece_model *model)
{
    return model->processor.eos_id();
}

extern "C" int sentencepiece_unk(const struct sentencepiece_model *model)
{
    return model->processor.unk_id();
}

extern "C" int sentencepiece_encode(const struct sentencepiece_model *model, const char *text,
                                    size_t size, uint32_t **ids, size_t *n)
{
    if (!utf8_valid(text, size))
        return -EILSEQ;
    try {
        std::vector<int> pieces;
        uint32_t *copy = nullptr;

        if (!model->processor.Encode(absl::string_view(text, size), &pieces).ok())
            return -EILSEQ;
        if (!pieces.empty()) {
            copy = (uint32_t *)malloc(pieces.size() * sizeof(*copy));
            if (!copy)
                return -ENOMEM;
        }
        for (size_t i = 0; i < pieces.size(); i++)
            copy[i] = (uint32_t)pieces[i];
        *ids = copy;
        *n = pieces.size();
        return 0;
    } catch (...) {
        return -ENOMEM;
    }
}

extern "C" int sentencepiece_decode(const struct sentencepiece_model *model, const uint32_t *ids,
                                    size_t n, char **text)
{
    try {
        std::vector<int> pieces(n);
        std::string joined;
        char *copy;

        for (size_t i = 0; i < n; i++) {
            if (ids[i] >= sentencepiece_size(model))
                return -ERANGE;
            pieces[i] = (int)ids[i];
        }
        if (!model->processor.Decode(pieces, &joined).ok())
            return -ERANGE;
        copy = (char *)malloc(joined.size() + 1);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, joined.data(), joined.size());
        copy[joined.size()] = '\0';
        *text = copy;
        return 0;
    } catch (...) {
        return -ENOMEM;
    }
}
