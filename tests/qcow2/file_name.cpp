// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/file_name.hpp>

#include <gtest/gtest.h>

#include <optional>
#include <string>

namespace gaur::qcow2 {
namespace {

TEST(file_name, has_a_protocol_if_a_colon_comes_before_any_slash) {
    EXPECT_EQ(protocol_of("nbd://host/x"), "nbd");
    EXPECT_EQ(protocol_of("json:{\"driver\": \"raw\"}"), "json");
    EXPECT_EQ(protocol_of("file:a"), "file");
    EXPECT_EQ(protocol_of("a:b/c"), "a");
    EXPECT_EQ(protocol_of(":a"), "");
    for (const char* path : {"", "a", "a/b:c", "/a:b", "./a:b", "../a:b"}) {
        EXPECT_EQ(protocol_of(path), std::nullopt) << path;
    }
}

TEST(file_name, is_a_path_without_its_file_protocol) {
    EXPECT_EQ(local_path("a/b"), "a/b");
    EXPECT_EQ(local_path("file:a"), "a");
    EXPECT_EQ(local_path("file:///a"), "///a");
    EXPECT_EQ(local_path("file:a:b"), "a:b");
    EXPECT_EQ(local_path("file:file:a"), "file:a");
    for (const char* name : {"file:", "nbd:a", ":a", "FILE:a", "json:file:a"}) {
        EXPECT_EQ(local_path(name), std::nullopt) << name;
    }
}

TEST(file_name, begins_in_the_folder_of_the_image) {
    EXPECT_EQ(full_name("i", "a"), "a");
    EXPECT_EQ(full_name("s/i", "a"), "s/a");
    EXPECT_EQ(full_name("/i", "a"), "/a");
    EXPECT_EQ(full_name("s/i", "./a:b"), "s/./a:b");
    EXPECT_EQ(full_name("s/i", "/a"), "/a");
    EXPECT_EQ(full_name("s/i", "file:a"), "s/a");
    EXPECT_EQ(full_name("s/i", "file:/a"), "/a");
    EXPECT_EQ(full_name("s/i", "nbd://h/x"), "nbd://h/x");
    EXPECT_EQ(full_name("s/i", "json:{}"), "json:{}");
    EXPECT_EQ(full_name("a:b/i", "c"), "a:b/c") << "the image's own path is no name";
}

TEST(file_name, of_a_path_has_no_protocol) {
    for (const char* path : {"a", "a/b:c", "/a:b", "a:b", ":", "file:a"}) {
        const std::string name = name_of_path(path);
        EXPECT_EQ(protocol_of(name), std::nullopt) << path;
        EXPECT_TRUE(name == path || name == "./" + std::string(path)) << path;
    }
    EXPECT_EQ(name_of_path("a:b.raw"), "./a:b.raw");
    EXPECT_EQ(name_of_path("s/a:b.raw"), "s/a:b.raw");
}

} // namespace
} // namespace gaur::qcow2
